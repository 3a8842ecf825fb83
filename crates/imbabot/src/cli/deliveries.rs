//! `deliveries`: the outbox, its history, and what an operator may do about it.

use imbabot_bot::DeliveryId;
use imbabot_store::{
    CancelFilter, DeliveryFilter, DeliveryRecord, DeliveryState, Resolution, RetryVerdict, Store,
};
use serde_json::json;

use super::args::{DeliveriesFilter, DeliveriesVerb, Resolve};
use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::{output, stores};

/// Without `--limit`: as many as a person looks at.
const LIMIT: usize = 100;

pub(crate) async fn deliveries(
    command: &Command,
    verb: Option<DeliveriesVerb>,
    filter: DeliveriesFilter,
) -> Result {
    let loaded = command.loaded_for_store()?;
    let store = stores::visit(&loaded.config).await?;
    let now = stores::now(&*store, &*clock()).await?;
    match verb {
        None => list(command, &*store, filter).await,
        Some(DeliveriesVerb::Cancel { ids, bot, schedule, state }) => {
            let filter = match (bot, schedule, state) {
                (Some(bot), _, _) => CancelFilter::Bot(bot),
                (_, Some(schedule), _) => CancelFilter::Schedule(schedule),
                (_, _, Some(state)) => CancelFilter::State(state),
                _ => CancelFilter::Ids(ids.clone()),
            };
            let cancelled = store.cancel(now, &filter).await?;
            command.output.data(&json!({ "cancelled": cancelled }), || {
                format!("{} cancelled", cancelled.len())
            });
            for id in &ids {
                if !cancelled.contains(id) {
                    return Err(not_queued(&*store, *id).await?);
                }
            }
            Ok(Exit::Ok)
        }
        Some(DeliveriesVerb::Retry { id, accept_duplicate }) => {
            match store.retry(now, id, accept_duplicate).await? {
                RetryVerdict::Queued => {
                    told(command, id, "queued");
                    Ok(Exit::Ok)
                }
                RetryVerdict::Missing => Err(missing(id)),
                RetryVerdict::NeedsAcceptance => Err(Failure::bad_input(format!(
                    "nobody knows whether {id} was posted: sending it again may post it twice"
                ))
                .hint("look into the room; then --accept-duplicate, or `deliveries resolve`")),
                RetryVerdict::NotNow(state) => {
                    Err(Failure::bad_input(format!("{id} is {state}: there is nothing to retry")))
                }
            }
        }
        Some(DeliveriesVerb::Resolve { id, as_ }) => {
            let (resolution, word) = match as_ {
                Resolve::Delivered => (Resolution::Delivered, "delivered"),
                Resolve::Dead => (Resolution::Dead, "dead"),
            };
            match store.resolve(now, id, resolution).await? {
                None => Err(missing(id)),
                Some(DeliveryState::Unknown) => {
                    told(command, id, word);
                    Ok(Exit::Ok)
                }
                Some(state) => Err(Failure::bad_input(format!(
                    "{id} is {state}, not unknown: nothing to resolve"
                ))),
            }
        }
    }
}

async fn list(command: &Command, store: &dyn Store, filter: DeliveriesFilter) -> Result {
    let filter = DeliveryFilter {
        state: filter.state,
        since: filter.since,
        // A script counts; a person looks.
        limit: filter.limit.or((!command.output.json).then_some(LIMIT)),
    };
    let found = store.deliveries(&filter).await?;
    command.output.data(&json!(found), || {
        let rows = found.iter().map(row);
        output::table(&["DELIVERY", "CREATED", "WIDGET", "ROOM", "FROM", "STATE", "TEXT"], rows)
    });
    Ok(Exit::Ok)
}

fn row(delivery: &DeliveryRecord) -> Vec<String> {
    let from = match (&delivery.bot, &delivery.occurrence) {
        (Some(bot), _) => format!("bot {bot}"),
        (_, Some(occurrence)) => occurrence.clone(),
        _ => "send".into(),
    };
    let state = match &delivery.reason {
        Some(reason) => format!("{}({reason})", delivery.state),
        None => delivery.state.to_string(),
    };
    vec![
        delivery.id.to_string(),
        delivery.created_at.compact(),
        delivery.widget.to_string(),
        delivery.room.to_string(),
        from,
        state,
        output::foreign(delivery.text.as_deref().unwrap_or("(not kept)")),
    ]
}

fn told(command: &Command, id: DeliveryId, state: &str) {
    command.output.data(&json!({"delivery": id, "state": state}), || format!("{id}: {state}"));
}

fn missing(id: DeliveryId) -> Failure {
    Failure::bad_input(format!("there is no delivery {id}"))
}

async fn not_queued(store: &dyn Store, id: DeliveryId) -> Result<Failure> {
    Ok(match store.delivery(id).await? {
        None => missing(id),
        Some(record) => Failure::bad_input(format!(
            "{id} is {}: only what is queued can be cancelled",
            record.state
        )),
    })
}
