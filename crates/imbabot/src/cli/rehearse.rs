//! `rehearse`: the real configuration and the real bots in virtual time, each widget on a simulated
//! site. Reads no secret and makes no connection, but to a store on a server for its list of rooms, and
//! writes nothing but what it prints.

mod rooms;
mod tell;

use std::time::Duration;

use imbabot_core::{Api, Timestamp};
use imbabot_testing::rehearsal::GaveUp;
use imbabot_testing::{Rehearsal, Wanted};

use super::args::Rehearse;
use super::{Command, Result, clock};
use crate::config::{load_for_store, load_without_secrets};
use crate::exit::{Exit, Failure};
use crate::{output, setup, telemetry};
use tell::Told;

/// Without `--until`.
const USUAL: Duration = Duration::from_secs(7 * 86_400);
/// What is logged, unless asked otherwise: the log carries the host's own time.
const LOG: &str = "error";

const ALMOST_A_SECOND: Duration = Duration::from_micros(999_999);

pub(crate) async fn rehearse(command: &Command, options: Rehearse) -> Result {
    // Whoever brings the rooms along needs no store.
    let load = if options.rooms.is_some() { load_without_secrets } else { load_for_store };
    let loaded = command.load_by(load).map_err(|problems| command.problems(&problems))?;
    let config = &loaded.config;
    telemetry::start(command.global.log.as_deref().unwrap_or(LOG), config.log.format);
    let from = options.from.unwrap_or_else(|| floor(clock().now()));
    let until = options.until.unwrap_or(from + USUAL);
    if until < from {
        let message =
            format!("--until ({}) lies before --from ({})", until.compact(), from.compact());
        return Err(Failure::bad_input(message));
    }
    // A length of time from now has a fraction of a second, at which nothing is ever due.
    let from = floor(from + ALMOST_A_SECOND);
    let wanted = Wanted { from, until: floor(until).max(from), seed: options.seed };
    let sites = rooms::of(config, options.rooms.as_deref()).await?;
    let mut rehearsal = Rehearsal::new(wanted);
    let settings = setup::settings_with(config, &command.registry, |widget| {
        let rooms = sites.rooms_of(&widget.name);
        let (transport, credentials) = rehearsal
            .site(&widget.name, widget.id, rooms)
            .map_err(|error| Failure::new(Exit::Internal, "IMB-X-TASK", error.to_string()))?;
        Ok(Api::new(transport, credentials).with_options(setup::api_options(config)))
    })?;
    let rehearsed = rehearsal.run(settings).map_err(|GaveUp { fatal, .. }| Failure::from(fatal))?;
    let told = Told {
        wanted,
        from_now: options.from.is_none(),
        widgets: config.widgets.iter().map(|widget| widget.name.clone()).collect(),
        sites: &sites,
        rehearsed: &rehearsed,
    };
    if command.output.json {
        output::line(&told.json().to_string());
    } else {
        output::line(told.text().trim_end());
    }
    Ok(Exit::Ok)
}

/// The whole second.
fn floor(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.as_seconds())
}
