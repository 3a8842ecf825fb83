//! `store info` of a store on a server: what it holds, who runs on it, and when it was last checked. How
//! large it is and how it is copied is the server's business.

use imbabot_store::{CareKind, Operations, Tally};
use serde_json::{Map, Value, json};

use super::super::{Command, Result};
use super::{checks, last, listed, told};
use crate::config::{Config, Server};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::stores::{self, Daemons};

pub(super) async fn info(command: &Command, config: &Config, at: &Server) -> Result {
    let place = &config.store.place;
    let Some(store) = stores::server(at, config).await? else {
        let message = format!("{place} has no store of imbabot yet");
        return Err(
            Failure::new(Exit::Store, "IMB-S-UNUSABLE", message).hint("`imbabot run` makes it")
        );
    };
    let daemons = Daemons::of_server(&store).await?;
    let facts = store.server();
    let (tally, care) = (store.tally().await?, store.care().await?);
    let rows = rows(&tally);
    let numbers: Vec<i64> = daemons.alive().map(|instance| instance.incarnation.0).collect();
    let counted: Map<String, Value> =
        rows.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
    let value = json!({
        "kind": "postgres", "place": place.to_string(), "version": facts.version,
        "pooled": facts.pooled, "durable": facts.durable, "clears_away": facts.clears_away, "rows": counted,
        "instances": numbers, "checks": checks(&care),
    });
    command.output.data(&value, || {
        let counts: Vec<String> = rows
            .iter()
            .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
            .collect();
        let names: Vec<String> = daemons
            .alive()
            .map(|one| format!("{} ({})", one.incarnation.0, output::foreign(&one.name)))
            .collect();
        let run = if names.is_empty() { "none runs".to_owned() } else { names.join(", ") };
        let rows = [
            ("store", format!("{place} ({})", stores::noticed(facts))),
            ("records", counts.join(", ")),
            ("instances", run),
            ("integrity", told(last(&care, CareKind::Integrity))),
            ("verified", told(last(&care, CareKind::Verify))),
        ];
        listed(rows.map(|(name, text)| [name.to_owned(), text]).into())
    });
    Ok(Exit::Ok)
}

fn rows(tally: &Tally) -> [(&'static str, u64); 3] {
    let deliveries = tally.deliveries.iter().map(|count| count.present).sum();
    let poisoned = tally.events_poisoned.iter().map(|(_, count)| count).sum();
    [
        ("deliveries", deliveries),
        ("events_waiting", tally.events_waiting),
        ("events_poisoned", poisoned),
    ]
}
