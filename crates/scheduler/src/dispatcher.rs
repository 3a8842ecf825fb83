//! Takes events from the inbox to the bots and what the bots want to the outbox, each handler in
//! one transaction with "handled". A handler that fails, panics or takes too long has said nothing.
//! Never calls `send_msg` and never waits for one bot before it serves another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use imbabot_bot::{
    BotName, Context, DeliveryEvent, Effects, Event, Listen, Outgoing, Room, RoomEvent, Setting,
    TimerEvent, User, UserEvent,
};
use imbabot_core::{Timestamp, escape_foreign, validate_text};
use imbabot_store::{
    Born, DeadReason, EventBody, EventClaim, EventEntry, Handled, HandledOutcome, NewDelivery,
};

use tracing::Instrument;

use crate::executor::{Blame, HandlerEnd, Place, Started};
use crate::lookup::Lookup;
use crate::metrics::Family;
use crate::settings::{BotSettings, Settings, WidgetSettings};
use crate::shared::{Fatal, Shared};

const TASK: &str = "dispatcher";
/// A handler's effect that cannot be committed is tried again this often, a second apart, before
/// the process gives up: its events would otherwise wait for ever.
const COMMIT_TRIES: u32 = 30;
/// A bot's thread that does not answer for so long is held by code that never awaits.
const SPIN: Duration = Duration::from_secs(1);
/// The waits after the first and the second failure; after the third the event is poisoned.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    // After a panic of this task nobody hears the handlers that it had started.
    while let Err(error) = shared.store.release_running(shared.clock.now()).await {
        shared.store_failed("release_running", error).await?;
        if shared.stop.is_cancelled() {
            return Ok(());
        }
    }
    shared.store_works("release_running");
    let mut running: HashMap<BotName, usize> = HashMap::new();
    let mut handlers = FuturesUnordered::new();
    loop {
        let settings = shared.settings.load_full();
        let mut next = None;
        // Asked once per turn: a stop that comes while the store works must still end the wait below.
        let stopping = shared.stop.is_cancelled();
        if shared.is_fenced() {
            // What a handler wants done can be recorded no more: it waits again, for another instance.
            return Ok(());
        }
        if !stopping {
            match claim(&shared, &settings, &running).await {
                Ok((entries, due)) => {
                    shared.store_works("claim_events");
                    next = due;
                    for entry in entries {
                        *running.entry(entry.bot.clone()).or_default() += 1;
                        let (shared, settings) = (Arc::clone(&shared), Arc::clone(&settings));
                        let span = span_of(&entry);
                        handlers.push(
                            async move {
                                let bot = entry.bot.clone();
                                (bot, handle(&shared, &settings, entry).await)
                            }
                            .instrument(span)
                            .boxed(),
                        );
                    }
                }
                Err(error) => {
                    shared.store_failed("claim_events", error).await?;
                    continue;
                }
            }
        } else if handlers.is_empty() {
            return Ok(());
        }
        shared.beat(TASK, if handlers.is_empty() { "idle" } else { "handling" });
        let now = shared.clock.now();
        shared
            .idle
            .dispatcher
            .store(handlers.is_empty() && next.is_none_or(|due| due > now), Ordering::Release);
        let due = next.unwrap_or(now + shared.look());
        tokio::select! {
            biased;
            Some((bot, end)) = handlers.next(), if !handlers.is_empty() => {
                end?;
                if let Some(count) = running.get_mut(&bot) {
                    *count = count.saturating_sub(1);
                }
            }
            () = shared.stop.cancelled(), if !stopping => {}
            () = shared.bells.dispatcher.notified() => {}
            () = shared.clock.sleep_until(due) => {}
        }
    }
}

async fn claim(
    shared: &Shared,
    settings: &Settings,
    running: &HashMap<BotName, usize>,
) -> imbabot_store::Result<(Vec<EventEntry>, Option<Timestamp>)> {
    // What a bot that was set aside is to be told waits.
    let free: Vec<_> = settings
        .bots
        .iter()
        .filter(|bot| !shared.executor.is_set_aside(&bot.name))
        .map(|bot| {
            let busy = running.get(&bot.name).copied().unwrap_or_default();
            (bot.name.clone(), bot.concurrency.saturating_sub(busy))
        })
        .collect();
    if free.iter().all(|(_, slots)| *slots == 0) {
        return Ok((Vec::new(), None));
    }
    let ahead = shared.servers_ahead();
    shared.store.claim_events(EventClaim { now: shared.clock.now(), free, ahead }).await
}

/// What is said while an event is handled tells which, whatever the filter.
fn span_of(entry: &EventEntry) -> tracing::Span {
    let occurrence = match &entry.body {
        EventBody::Timer { occurrence, .. } => occurrence.as_deref(),
        _ => None,
    };
    tracing::error_span!(
        "event", bot = %entry.bot, event = entry.event_name(), widget = %entry.widget, occurrence
    )
}

/// Why a handler's work was not kept.
struct Failure {
    outcome: &'static str,
    reason: String,
    /// It was not the handler's own doing: the try does not count.
    innocent: bool,
}

impl Failure {
    fn own(outcome: &'static str, reason: String) -> Self {
        Self { outcome, reason, innocent: false }
    }
}

async fn handle(shared: &Shared, settings: &Settings, entry: EventEntry) -> Result<(), Fatal> {
    let end = match (settings.bot(&entry.bot), settings.widget(&entry.widget)) {
        // It was running when the process died, on every try: it is not run again.
        _ if usize::try_from(entry.tries).unwrap_or(usize::MAX) > RETRIES.len() + 1 => {
            Err(Failure::own("killed", "the process died on every try".into()))
        }
        (Some(bot), Some(widget)) => run_handler(shared, settings, bot, widget, &entry).await,
        _ => Ok(None),
    };
    for _ in 0..COMMIT_TRIES {
        let recorded = match &end {
            Ok(Some(handled)) => commit(shared, handled.clone()).await,
            // The widget was removed: nobody can be told anything about it any more.
            Ok(None) => {
                let now = shared.clock.now();
                shared.store.fail_event(&entry, now, "widget_removed", None).await
            }
            Err(failure) if failure.innocent => give_back(shared, &entry, failure).await,
            Err(failure) => fail(shared, &entry, failure).await,
        };
        match recorded {
            Ok(()) => {
                shared.store_works("commit_handled");
                return Ok(());
            }
            Err(error) => shared.store_failed("commit_handled", error).await?,
        }
    }
    // The next start finds the entry where it was, with its try counted.
    Err(Fatal::Store(imbabot_store::Error::new(
        imbabot_store::ErrorKind::Io,
        "what a handler did could not be recorded for half a minute",
    )))
}

async fn run_handler(
    shared: &Shared,
    settings: &Settings,
    bot: &BotSettings,
    widget: &WidgetSettings,
    entry: &EventEntry,
) -> Result<Option<Handled>, Failure> {
    let event = event_of(entry, widget);
    let lookup = Arc::new(Lookup(Arc::clone(&shared.store)));
    let context = Context::new(Setting {
        bot: bot.name.clone(),
        widget: widget.name.clone(),
        event: entry.event_name(),
        now: entry.at,
        rehearsing: settings.rehearsing,
        activity: shared.activity(&widget.name, |activity| activity.signal()),
        markup: widget.markup,
        max_text: settings.delivery.max_text,
        rooms: lookup.clone(),
        memory: lookup,
    });
    let code = Arc::clone(&bot.bot);
    let handler = async move {
        let mut context = context;
        let end = code.on_event(&mut context, &event).await;
        // Here, where the bot runs: an error's words are the bot's code too.
        match end.and_then(|()| Ok(context.into_effects()?)) {
            Ok(effects) => Ok(effects),
            Err(error) => Err(format!("{error:#}")),
        }
    };
    // What the bot itself says tells what it was told, too.
    let handler = handler.instrument(tracing::Span::current());
    let Started { end, place } = shared.executor.run(&bot.name, handler.boxed());
    let end = match select(end, shared.clock.sleep(bot.timeout)).await {
        Either::Left((end, _)) => end,
        Either::Right(((), end)) => {
            drop(end);
            return Err(overdue(shared, bot, entry, &*place).await);
        }
    };
    match end {
        HandlerEnd::Done(effects) => {
            Ok(Some(handled(shared, settings, bot, widget, entry, effects)))
        }
        HandlerEnd::Failed(error) => {
            Err(Failure::own("error", format!("error: {}", escape_foreign(&error, 200))))
        }
        HandlerEnd::Panicked(words) => {
            Err(Failure::own("panic", format!("panicked: {}", escape_foreign(&words, 200))))
        }
        HandlerEnd::HeldUp(why) => Err(Failure { outcome: "held_up", reason: why, innocent: true }),
    }
}

/// A handler did not end in time: whose doing that is, and what follows for its bot.
async fn overdue(
    shared: &Shared,
    bot: &BotSettings,
    entry: &EventEntry,
    place: &dyn Place,
) -> Failure {
    let answered =
        matches!(select(place.answers(), shared.clock.sleep(SPIN)).await, Either::Left(_));
    let verdict = place.judge(answered);
    if verdict.lost {
        tracing::error!(
            bot = %bot.name, event = entry.event_name(), code = "IMB-B-SPINS",
            "the bot holds its thread without awaiting: it is left alone with it, others go on"
        );
        if shared.executor.is_set_aside(&bot.name) {
            shared
                .metrics
                .count(Family::bot_invocations_total, &[bot.name.as_str(), "quarantined"]);
            shared.board.set_aside(&bot.name, shared.clock.now());
            tracing::error!(
                bot = %bot.name, code = "IMB-B-SET-ASIDE",
                "the bot has lost too many threads to code that never awaits: what it is to be told \
                 waits. Mend the bot and restart, or reload (SIGHUP) to let it try again"
            );
        }
    }
    match verdict.blame {
        Blame::Slow => Failure::own("timeout", format!("timeout: longer than {:?}", bot.timeout)),
        Blame::Spins => {
            let reason = format!("timeout: longer than {:?} without awaiting", bot.timeout);
            Failure::own("spins", reason)
        }
        Blame::HeldUp => Failure {
            outcome: "held_up",
            reason: "another handler held the bot's thread".into(),
            innocent: true,
        },
    }
}

fn event_of(entry: &EventEntry, widget: &WidgetSettings) -> Event {
    let markup = widget.markup;
    match &entry.body {
        EventBody::Room { change, room, before } => Event::Room(RoomEvent::new(
            *change,
            Room::of(room, markup),
            before.as_ref().map(|room| Room::of(room, markup)),
            entry.at,
        )),
        EventBody::User { change, user, before } => Event::User(UserEvent::new(
            *change,
            User::of(user, markup),
            before.as_ref().map(|user| User::of(user, markup)),
            entry.at,
        )),
        EventBody::Timer { key, occurrence } => {
            Event::Timer(TimerEvent::new(key.clone(), occurrence.clone(), entry.at))
        }
        EventBody::Delivery { delivery, key, room, state, reason } => Event::Delivery(
            DeliveryEvent::new(*delivery, key.clone(), *room, state, reason.clone(), entry.at),
        ),
    }
}

fn handled(
    shared: &Shared,
    settings: &Settings,
    bot: &BotSettings,
    widget: &WidgetSettings,
    entry: &EventEntry,
    effects: Effects,
) -> Handled {
    let now = shared.clock.now();
    let sends = effects
        .sends
        .iter()
        .map(|outgoing| delivery(settings, bot, widget, entry, outgoing, now))
        .collect();
    Handled {
        entry: entry.clone(),
        now,
        sends,
        wakes: effects.wakes,
        cancels: effects.cancels,
        memory: effects.memory,
        limits: settings.limits,
    }
}

fn delivery(
    settings: &Settings,
    bot: &BotSettings,
    widget: &WidgetSettings,
    entry: &EventEntry,
    outgoing: &Outgoing,
    now: Timestamp,
) -> NewDelivery {
    // ImbaChat counts rooms from 1, in 64 bits with a sign.
    let exists = i64::try_from(outgoing.room().0).is_ok_and(|room| room > 0);
    let fault = if exists {
        let checked = validate_text(outgoing.text(), settings.delivery.max_text);
        checked.err().map(|error| error.to_string())
    } else {
        Some(format!("there is no room {}", outgoing.room()))
    };
    let from = outgoing.not_before().unwrap_or(now).max(now);
    let keeps = outgoing.chosen_expiry().unwrap_or(settings.delivery.expires_after);
    NewDelivery {
        key: outgoing.full_key(),
        widget: widget.name.clone(),
        room: outgoing.room(),
        sender: outgoing.chosen_sender().or(bot.sender.as_ref()).unwrap_or(&widget.sender).clone(),
        bot: Some(bot.name.clone()),
        event: Some(entry.event_name()),
        occurrence: None,
        schedule: None,
        policy: outgoing.chosen_policy().or(bot.policy).unwrap_or(settings.delivery.policy),
        text: outgoing.text().to_owned(),
        not_before: outgoing.not_before(),
        expires_at: from + keeps,
        born: fault.as_ref().map_or(Born::Queued, |_| Born::Dead(DeadReason::Invalid)),
        detail: fault,
        report: bot.bot.listens().contains(Listen::DELIVERIES),
    }
}

async fn commit(shared: &Shared, handled: Handled) -> imbabot_store::Result<()> {
    let bot = handled.entry.bot.clone();
    let event = handled.entry.event_name();
    let wakes = !handled.wakes.is_empty();
    match shared.store.commit_handled(handled).await? {
        HandledOutcome::Conflict => {
            shared.metrics.count(Family::bot_invocations_total, &[bot.as_str(), "conflict"]);
            shared.bells.dispatcher.notify_one();
        }
        HandledOutcome::Committed(deliveries) => {
            shared.metrics.count(Family::bot_invocations_total, &[bot.as_str(), "ok"]);
            let mut unsent = BTreeMap::new();
            for delivery in &deliveries {
                if delivery.refused {
                    tracing::warn!(
                        bot = %bot, event, delivery = %delivery.id, code = "IMB-B-KEY",
                        "a message with the same key and another text is there already: this one is not sent"
                    );
                }
                if delivery.known {
                    continue;
                }
                if let Some(reason) = delivery.reason {
                    let detail = delivery.detail.as_deref().unwrap_or_default();
                    if reason == DeadReason::Suppressed {
                        // Its name stands before the colon.
                        let limit = detail.split(':').next().unwrap_or_default();
                        shared.metrics.count(Family::suppressed_total, &[limit]);
                    }
                    let why = (reason.as_str(), detail.to_owned());
                    unsent.entry(why).or_insert((0_u64, delivery.id)).0 += 1;
                }
            }
            // A line per handler, not per message: a flood is not answered with a flood.
            for ((reason, detail), (messages, first)) in unsent {
                tracing::warn!(
                    bot = %bot, event, reason, messages, first = %first, code = "IMB-B-SUPPRESSED",
                    "messages of the bot are not sent: {detail}"
                );
            }
            if !deliveries.is_empty() {
                shared.idle.deliverer.store(false, Ordering::Release);
                shared.bells.deliverer.notify_one();
            }
            if wakes {
                shared.bells.timer.notify_one();
            }
        }
    }
    Ok(())
}

/// The handler had no turn: the entry waits again, and its try does not count.
async fn give_back(
    shared: &Shared,
    entry: &EventEntry,
    failure: &Failure,
) -> imbabot_store::Result<()> {
    shared.metrics.count(Family::bot_invocations_total, &[entry.bot.as_str(), failure.outcome]);
    tracing::warn!(
        bot = %entry.bot, event = entry.event_name(), code = "IMB-B-HELD-UP",
        "the handler had no turn ({}): tried again, and this try does not count", failure.reason
    );
    shared.store.give_back(entry, shared.clock.now() + RETRIES[0]).await
}

async fn fail(shared: &Shared, entry: &EventEntry, failure: &Failure) -> imbabot_store::Result<()> {
    let now = shared.clock.now();
    let place = usize::try_from(entry.tries).unwrap_or(usize::MAX).saturating_sub(1);
    let retry_at = RETRIES.get(place).map(|wait| now + *wait);
    shared.metrics.count(Family::bot_invocations_total, &[entry.bot.as_str(), failure.outcome]);
    match retry_at {
        Some(at) => tracing::warn!(
            bot = %entry.bot, event = entry.event_name(), tries = entry.tries, code = "IMB-B-FAILED",
            "the handler failed ({}); nothing of it was kept, tried again at {}",
            failure.reason, at.compact()
        ),
        None => {
            shared.metrics.count(Family::events_poisoned_total, &[entry.bot.as_str()]);
            tracing::error!(
                bot = %entry.bot, event = entry.event_name(), tries = entry.tries, code = "IMB-B-POISONED",
                "the handler failed on every try ({}); the event is set aside for this bot: \
                 `imbabot events --poisoned`, `imbabot events retry {}/{}`",
                failure.reason, entry.event_name(), entry.bot
            );
        }
    }
    shared.store.fail_event(entry, now, &failure.reason, retry_at).await
}
