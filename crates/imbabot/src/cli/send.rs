//! `send`: one message through the ledger. Beside a daemon it adds the row and the daemon posts it;
//! without one it takes the daemon's role for its own row only. On a server there is always room for a
//! daemon: there it only ever adds the row, and says if nobody is there to post it.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::DeliveryId;
use imbabot_core::{Timestamp, validate_text};
use imbabot_scheduler::{Clock, Engine, Inline, Parts};
use imbabot_store::{
    Born, DeliveryRecord, DeliveryState, Enqueued, ErrorKind, NewDelivery, Outbox, Role,
    SqliteStore, Store,
};
use serde_json::json;

use super::args::Send;
use super::{Command, Result, clock};
use crate::config::{Config, StorePlace, Widget};
use crate::exit::{Exit, Failure};
use crate::setup;
use crate::stores::{self, Daemons};

/// Another `send` gives the store back within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the daemon's progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) async fn send(command: &Command, options: Send) -> Result {
    let loaded = command.loaded()?;
    let config = &loaded.config;
    let clock = clock();
    let now = clock.now();
    let widget = widget(config, &options)?;
    let new = delivery(config, widget, &options, now)?;
    let begun = clock.elapsed();
    let until = options.wait.map(|wait| begun + wait);
    let path = match &config.store.place {
        StorePlace::File(path) => path,
        StorePlace::Server(_) => return on_server(command, config, widget, new, until).await,
    };
    // A daemon may end, or another `send` begin, between any two looks: whoever has the role
    // decides.
    loop {
        match SqliteStore::open(path, Role::Brief, setup::bodies(config)) {
            Ok(store) => {
                let until = options.wait.map(|wait| now + wait);
                return alone(command, config, Arc::new(store), new, until).await;
            }
            Err(error) => match error.kind() {
                // Another `send` without a daemon sends its own row only: wait for the role.
                ErrorKind::Held { brief: true, .. }
                    if clock.elapsed().saturating_sub(begun) < PATIENCE =>
                {
                    clock.sleep(LOOK).await;
                }
                ErrorKind::Held { .. } => {
                    let store = stores::visit(config).await?;
                    let id = accepted(store.enqueue(clock.now(), vec![new]).await?)?.id;
                    let record = watched(config, widget, &*store, id, until, &*clock).await?;
                    tell(command, id, record.found.as_ref());
                    return Ok(record.end(until.is_some()));
                }
                _ => return Err(error.into()),
            },
        }
    }
}

fn widget<'a>(config: &'a Config, options: &Send) -> Result<&'a Widget> {
    match (&options.widget, config.widgets.as_slice()) {
        (Some(name), _) => config
            .widget(name)
            .ok_or_else(|| Failure::bad_input(format!("there is no widget {name}"))),
        (None, [only]) => Ok(only),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|widget| widget.name.as_str()).collect();
            Err(Failure::new(
                Exit::Usage,
                "IMB-V-WIDGET",
                format!(
                    "there are several widgets ({}): say which with --widget",
                    names.join(", ")
                ),
            ))
        }
    }
}

fn delivery(
    config: &Config,
    widget: &Widget,
    options: &Send,
    now: Timestamp,
) -> Result<NewDelivery> {
    let text = text(options, config.delivery.max_text)?;
    match validate_text(&text, config.delivery.max_text) {
        Ok(None) => {}
        Ok(Some(warning)) => tracing::warn!(code = warning.code(), "{warning}"),
        Err(error) => return Err(Failure::new(Exit::BadInput, error.code(), error.to_string())),
    }
    if options.room.0 == 0 {
        return Err(Failure::bad_input("there is no room 0"));
    }
    let key = match &options.key {
        Some(key) if key.is_empty() || key.len() > 200 || key.chars().any(char::is_control) => {
            return Err(Failure::bad_input("a key has 1 to 200 bytes and no control characters"));
        }
        Some(key) => format!("cli/{key}"),
        // Two calls in one microsecond by one process are not possible.
        None => format!("cli//{}/{}", now.as_micros(), std::process::id()),
    };
    Ok(NewDelivery {
        key,
        widget: widget.name.clone(),
        room: options.room,
        sender: options.sender.as_ref().unwrap_or(&widget.sender).clone(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: options.policy.unwrap_or(config.delivery.policy),
        text,
        not_before: None,
        expires_at: now + config.delivery.expires_after,
        born: Born::Queued,
        detail: None,
        report: false,
    })
}

fn text(options: &Send, max: usize) -> Result<String> {
    if let Some(text) = &options.text {
        return Ok(text.clone());
    }
    let mut bytes = Vec::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(16);
    std::io::stdin()
        .take(bound)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::bad_input(format!("standard input: {}", e.kind())))?;
    if bytes.len() > max.saturating_add(2) {
        let error = imbabot_core::TextError::TooLong { bytes: bytes.len(), max };
        return Err(Failure::new(
            Exit::BadInput,
            error.code(),
            "the text is too long: more than the \
            `max_text` of [delivery]",
        ));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|_| Failure::bad_input("standard input is not UTF-8 text"))?;
    // `echo` ends with a line feed that nobody wants posted.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn accepted(enqueued: Vec<Enqueued>) -> Result<Enqueued> {
    let Some(enqueued) = enqueued.into_iter().next() else {
        return Err(Failure::new(Exit::Store, "IMB-S-IO", "the store recorded nothing"));
    };
    if enqueued.refused {
        return Err(Failure::bad_input(format!(
            "this key belongs to another message ({}): nothing was sent",
            enqueued.id
        ))
        .hint("the same key with the same text and room is the same message; another one needs another key"));
    }
    Ok(enqueued)
}

/// No daemon: the role is ours, for this row.
async fn alone(
    command: &Command,
    config: &Config,
    store: Arc<SqliteStore>,
    new: NewDelivery,
    until: Option<Timestamp>,
) -> Result {
    let clock = clock();
    let mut settings = command.settings(config)?;
    let widgets = std::mem::take(&mut settings.widgets);
    // Schedules and bots stay as the daemon left them: nothing is adopted but the widgets.
    let engine = Engine::begin_only(Parts {
        clock: Arc::clone(&clock),
        store: Arc::<SqliteStore>::clone(&store),
        executor: Arc::new(Inline),
        settings: imbabot_scheduler::Settings { widgets, ..settings },
        version: env!("CARGO_PKG_VERSION").into(),
        seed: u64::from(std::process::id()),
    })
    .await?;
    let id = accepted(store.enqueue(clock.now(), vec![new]).await?)?.id;
    let served = engine.deliver_only(id, until).await;
    let refused = engine.reasons().contains(&imbabot_scheduler::NotReady::CredentialsRejected);
    engine.end().await?;
    let served = served?;
    let record = store.delivery(id).await?;
    let exit =
        if served { end(record.as_ref(), refused, until.is_some()) } else { Exit::Unfinished };
    tell(command, id, record.as_ref());
    if !served {
        tracing::warn!(code = "IMB-D-BEHIND", delivery = %id, "older messages wait before it: the daemon will send it after them");
    }
    Ok(exit)
}

/// Any number of daemons may run, or none: whoever does posts the row within a second.
async fn on_server(
    command: &Command,
    config: &Config,
    widget: &Widget,
    new: NewDelivery,
    until: Option<Duration>,
) -> Result {
    let clock = clock();
    let store = stores::visit_or_make(config).await?;
    // Nobody would ever send it.
    store.in_use().await?;
    let now = stores::now(&*store, &*clock).await?;
    let new = NewDelivery { expires_at: now + config.delivery.expires_after, ..new };
    let id = accepted(store.enqueue(now, vec![new]).await?)?.id;
    let record = watched(config, widget, &*store, id, until, &*clock).await?;
    tell(command, id, record.found.as_ref());
    if record.is_open() && !Daemons::of_server(&*store).await?.is_anybody() {
        tracing::warn!(code = "IMB-D-NOBODY", delivery = %id, "no instance runs: the first that starts will send it");
        return Ok(Exit::Unfinished);
    }
    Ok(record.end(until.is_some()))
}

/// A message as it was found when nobody waited for it any more.
struct Found {
    found: Option<DeliveryRecord>,
    /// The credentials are refused, and so it waits.
    refused: bool,
}

impl Found {
    fn is_open(&self) -> bool {
        let open =
            |r: &DeliveryRecord| matches!(r.state, DeliveryState::Queued | DeliveryState::Sending);
        self.found.as_ref().is_some_and(open)
    }

    fn end(&self, waited: bool) -> Exit {
        end(self.found.as_ref(), self.refused, waited)
    }
}

/// Looks at a message that others post until it has come to its end, or until so much time has elapsed;
/// once if nobody waits.
async fn watched(
    config: &Config,
    widget: &Widget,
    store: &dyn Store,
    id: DeliveryId,
    until: Option<Duration>,
    clock: &dyn Clock,
) -> Result<Found> {
    loop {
        let mut record = Found { found: store.delivery(id).await?, refused: false };
        let Some(until) = until else { return Ok(record) };
        let late = clock.elapsed() >= until;
        if late && record.is_open() {
            let probe = setup::api(config, widget)?.probe_credentials().await;
            record.refused = matches!(probe, imbabot_core::Probe::Refused(_));
        }
        if late || !record.is_open() {
            return Ok(record);
        }
        clock.sleep(LOOK).await;
    }
}

fn end(record: Option<&DeliveryRecord>, refused: bool, waited: bool) -> Exit {
    let Some(record) = record else { return Exit::Store };
    match record.state {
        // Durable is all that was asked for.
        _ if !waited => Exit::Ok,
        DeliveryState::Delivered => Exit::Ok,
        DeliveryState::Unknown => Exit::SendUnknown,
        DeliveryState::Dead => Exit::SendDead,
        DeliveryState::Queued | DeliveryState::Sending if refused => Exit::Credentials,
        DeliveryState::Queued | DeliveryState::Sending => Exit::Unfinished,
    }
}

fn tell(command: &Command, id: DeliveryId, record: Option<&DeliveryRecord>) {
    let state = record.map(|record| record.state);
    let reason = record.and_then(|record| record.reason.clone());
    let value = json!({"delivery": id, "state": state, "reason": reason});
    // The id alone on stdout: a script takes it as it is.
    command.output.data(&value, || id.to_string());
    if !command.output.json
        && let Some(state) = state
    {
        let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        crate::output::error_line(&format!("{state}{why}"));
    }
}
