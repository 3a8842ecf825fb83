//! `drain`: asks an instance to give everything away, so that it can be stopped without a pause for
//! anybody. Only where several share a store on a server; it waits for nothing.

use imbabot_store::{IncarnationId, InstanceRecord};
use serde_json::json;

use super::{Command, Result, clock};
use crate::config::StorePlace;
use crate::exit::{Exit, Failure};
use crate::{output, stores};

pub(crate) async fn drain(command: &Command, instance: Option<i64>, draining: bool) -> Result {
    let loaded = command.loaded_for_store()?;
    let StorePlace::Server(server) = &loaded.config.store.place else {
        let message = "a store in a file has one instance: there is nobody to give anything to";
        return Err(Failure::new(Exit::Usage, "IMB-V-STORE", message).hint(
            "`systemctl stop imbabot`, or TERM, ends it when what is in flight has finished",
        ));
    };
    let (store, daemons) = stores::look(&loaded.config).await?;
    let alive: Vec<&InstanceRecord> = daemons.alive().collect();
    let number = match instance {
        Some(number) => IncarnationId(number),
        None => chosen(&alive, &stores::name_of_instance(server))?,
    };
    let now = stores::now(&*store, &*clock()).await?;
    if !store.drain(now, number, draining).await? {
        return Err(Failure::bad_input(format!("there is no instance {}", number.0))
            .hint("`imbabot status` lists those that are there"));
    }
    let name = alive.iter().find(|one| one.incarnation == number).map(|one| one.name.as_str());
    let value = json!({ "incarnation": number, "name": name, "draining": draining });
    command.output.data(&value, || {
        let called = name.map(|name| format!(" ({})", output::foreign(name))).unwrap_or_default();
        let told = match draining {
            true => "gives everything away and takes nothing more; `imbabot status` shows when it has nothing left",
            false => "takes its share again",
        };
        format!("{}{called}: {told}", number.0)
    });
    Ok(Exit::Ok)
}

/// The one of this name; where there is none, or several, somebody has to say which.
fn chosen(alive: &[&InstanceRecord], name: &str) -> Result<IncarnationId> {
    let ours: Vec<&&InstanceRecord> = alive.iter().filter(|one| one.name == name).collect();
    if let [only] = ours.as_slice() {
        return Ok(only.incarnation);
    }
    let listed: Vec<String> = alive
        .iter()
        .map(|one| format!("{} ({})", one.incarnation.0, output::foreign(&one.name)))
        .collect();
    let name = output::foreign(name);
    let message = match (listed.is_empty(), ours.len()) {
        (true, _) => return Err(Failure::bad_input("no instance runs")),
        (_, 0) => format!("no instance has the name {name}; there are {}", listed.join(", ")),
        _ => format!("several instances have the name {name}; there are {}", listed.join(", ")),
    };
    let hint = "say which by its number: `imbabot drain NUMBER`";
    Err(Failure::new(Exit::Usage, "IMB-V-INSTANCE", message).hint(hint))
}

#[cfg(test)]
mod tests {
    use imbabot_core::Timestamp;

    use super::*;

    fn instance(number: i64, name: &str) -> InstanceRecord {
        let at = Timestamp::from_seconds(1_772_323_200);
        InstanceRecord {
            incarnation: IncarnationId(number),
            name: name.into(),
            version: "1.2.3".into(),
            started_at: at,
            heartbeat_at: at,
            lease_until: at,
            draining: false,
            units: Vec::new(),
        }
    }

    #[test]
    fn without_a_number_it_is_the_one_of_this_host() {
        let (blue, green, twin) = (instance(7, "blue"), instance(8, "green"), instance(9, "blue"));
        let choose = |alive: &[&InstanceRecord], name: &str| {
            chosen(alive, name).map_err(|failure| format!("{}: {}", failure.code, failure.message))
        };
        assert_eq!(choose(&[&blue, &green], "blue"), Ok(IncarnationId(7)));
        assert_eq!(
            choose(&[&blue, &green], "red"),
            Err("IMB-V-INSTANCE: no instance has the name red; there are 7 (blue), 8 (green)"
                .into())
        );
        assert_eq!(
            choose(&[&blue, &twin], "blue"),
            Err("IMB-V-INSTANCE: several instances have the name blue; there are 7 (blue), 9 (blue)"
                .into())
        );
        assert_eq!(choose(&[], "blue"), Err("IMB-V-INPUT: no instance runs".into()));
    }
}
