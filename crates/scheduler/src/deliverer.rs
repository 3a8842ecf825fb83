//! Sends what the outbox holds and records what became of it. The only part that calls `send_msg`;
//! a request leaves only after its claim is on disk, and exactly one layer repeats anything: the
//! row's own `next_attempt_at`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_core::{
    Advice, Class, ClassifyRules, NetCode, OutcomeCode, Probe, Seen, SendMsg, SendOutcome,
    Timestamp, TransportError, classify,
};
use imbabot_store::{
    ClaimRequest, ClaimedDelivery, DeadReason, DeliveryState, ErrorKind, Next, Settled, WidgetClaim,
};

use tracing::Instrument;

use crate::breaker::{Breaker, Refused};
use crate::metrics::Family;
use crate::poller::activity::Sent;
use crate::settings::{Settings, WidgetSettings};
use crate::shared::{Fatal, Shared, tell_redirect, tell_refused};

const TASK: &str = "deliverer";
/// The transport has time-outs of its own that say more; this is the bound if they fail.
const MARGIN: Duration = Duration::from_secs(1);
/// Rows that time moves (expiry, resends) per transaction.
const SWEEP: usize = 500;
/// Where the server says "too many" without saying for how long.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// A failed settlement is tried again this often before the process gives up: until then the row
/// says `sending`, which is true.
const SETTLE_TRIES: u32 = 30;

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    // After a panic of this task nobody hears the answers to what it had sent and asked.
    for widget in &shared.settings.load().widgets {
        shared.breaker(&widget.name, Breaker::checked);
    }
    let settle = shared.settings.load().delivery.settle;
    while let Err(error) = shared.store.give_up_sending(shared.clock.now(), settle).await {
        shared.store_failed("give_up_sending", error).await?;
        if shared.stop.is_cancelled() {
            return Ok(());
        }
    }
    shared.store_works("give_up_sending");
    let mut in_flight: HashMap<WidgetName, usize> = HashMap::new();
    let mut attempts = FuturesUnordered::new();
    let mut sweep_at = Timestamp::MIN;
    // Others have ended this run: what is in flight is heard and recorded, and that is the end.
    let mut fenced = None;
    loop {
        if fenced.is_none() {
            match note_breakers(&shared).await {
                Ok(()) => shared.store_works("note_breakers"),
                Err(error) => {
                    fenced = unless_fenced(shared.store_failed("note_breakers", error).await)?;
                    // While stopping nothing is claimed, and what is in flight is to be heard.
                    if fenced.is_none() && !shared.stop.is_cancelled() {
                        continue;
                    }
                }
            }
        }
        let settings = shared.settings.load_full();
        let mut next = None;
        // Asked once per turn: a stop that comes while the store works must still end the wait below.
        let stopping = fenced.is_some() || shared.stop.is_cancelled();
        if !stopping {
            let now = shared.clock.now();
            // Chosen before the clock went back, it may lie years ahead.
            sweep_at = sweep_at.min(now + shared.look());
            if !shared.ownership.has_schedules() {
                // Another instance does that. The bell rings when it is this one's.
                sweep_at = now + shared.look();
            }
            if sweep_at <= now {
                match shared.store.sweep(now, settings.delivery.settle, SWEEP).await {
                    Ok((moved, due)) => {
                        shared.store_works("sweep");
                        // What is due and was not moved comes with the next turn.
                        sweep_at =
                            due.unwrap_or(now + shared.look()).max(now + Duration::from_millis(1));
                        if moved > 0 {
                            tracing::debug!(moved, "time moved deliveries on");
                        }
                    }
                    Err(error) => {
                        fenced = unless_fenced(shared.store_failed("sweep", error).await)?;
                        continue;
                    }
                }
            }
            let asked = shared.clock.elapsed();
            match claim(&shared, &settings, &in_flight).await {
                Ok(claimed) => {
                    shared.store_works("claim");
                    next = claimed.next_due;
                    for delivery in claimed.deliveries {
                        let widget = delivery.widget.clone();
                        *in_flight.entry(widget.clone()).or_default() += 1;
                        let (shared, settings) = (Arc::clone(&shared), Arc::clone(&settings));
                        let span = span_of(&delivery);
                        attempts.push(
                            async move {
                                (widget, attempt(&shared, &settings, delivery, asked).await)
                            }
                            .instrument(span)
                            .boxed(),
                        );
                    }
                }
                Err(error) => {
                    fenced = unless_fenced(shared.store_failed("claim", error).await)?;
                    continue;
                }
            }
        } else if attempts.is_empty() {
            return fenced.map_or(Ok(()), Err);
        }
        let now = shared.clock.now();
        shared.beat(TASK, if attempts.is_empty() { "idle" } else { "sending" });
        // A message that only its rate holds back is still on its way.
        let soon = now + Duration::from_secs(2);
        shared
            .idle
            .deliverer
            .store(attempts.is_empty() && next.is_none_or(|due| due > soon), Ordering::Release);
        // Nothing is swept any more while stopping: an instant that is past would never let go.
        let look = now + shared.look();
        let due = if stopping { look } else { next.unwrap_or(look).min(sweep_at) };
        tokio::select! {
            biased;
            Some((widget, end)) = attempts.next(), if !attempts.is_empty() => {
                end?;
                if let Some(count) = in_flight.get_mut(&widget) {
                    *count = count.saturating_sub(1);
                }
                // Whatever else has ended meanwhile, before the next claim.
                while let Some(Some((widget, end))) = attempts.next().now_or_never() {
                    end?;
                    if let Some(count) = in_flight.get_mut(&widget) {
                        *count = count.saturating_sub(1);
                    }
                }
            }
            () = shared.stop.cancelled(), if !stopping => {}
            () = shared.bells.deliverer.notified() => sweep_at = sweep_at.min(shared.clock.now()),
            () = shared.clock.sleep_until(due) => {}
        }
    }
}

/// A run that others ended still has to hear what became of its requests; any other end is at once.
fn unless_fenced(end: Result<(), Fatal>) -> Result<Option<Fatal>, Fatal> {
    match end {
        Ok(()) => Ok(None),
        Err(Fatal::Store(error)) if *error.kind() == ErrorKind::Fenced => {
            Ok(Some(Fatal::Store(error)))
        }
        Err(fatal) => Err(fatal),
    }
}

/// Writes down which breakers opened or closed, before anything is claimed by what they say now.
async fn note_breakers(shared: &Shared) -> imbabot_store::Result<()> {
    let changes = shared.breaker_changes();
    if changes.is_empty() {
        return Ok(());
    }
    let noted = shared.store.note_breakers(changes.clone()).await;
    if noted.is_err() {
        shared.breaker_changes_again(changes);
    }
    noted
}

/// Delivers one row and no other, as `send` does without a daemon: one attempt, or as many as fit
/// before `until`. False if older rows wait in its lane, which are the daemon's to send.
pub(crate) async fn only(
    shared: &Shared,
    id: DeliveryId,
    until: Option<Timestamp>,
) -> Result<bool, Fatal> {
    let settings = shared.settings.load_full();
    loop {
        let store = &shared.store;
        if store.waits_behind_others(id).await.map_err(Fatal::Store)? {
            return Ok(false);
        }
        let Some(record) = store.delivery(id).await.map_err(Fatal::Store)? else {
            return Ok(true);
        };
        if record.state != DeliveryState::Queued {
            return Ok(true);
        }
        let interval = settings.delivery.rate.interval();
        let room_interval = settings.delivery.rate_per_room.interval();
        let widget = WidgetClaim { widget: record.widget, slots: 1, interval, room_interval };
        let (now, asked) = (shared.clock.now(), shared.clock.elapsed());
        let request = ClaimRequest {
            now,
            incarnation: shared.incarnation,
            widgets: vec![widget],
            only: Some(id),
        };
        let claimed = store.claim(request).await.map_err(Fatal::Store)?;
        let tried = !claimed.deliveries.is_empty();
        for delivery in claimed.deliveries {
            let span = span_of(&delivery);
            attempt(shared, &settings, delivery, asked).instrument(span).await?;
        }
        let refused = settings
            .widgets
            .iter()
            .any(|widget| shared.breaker(&widget.name, |breaker| breaker.only_probes()));
        let Some(until) = until else {
            if tried {
                return Ok(true);
            }
            // Held by a rate of a moment ago: one attempt is still owed.
            match claimed.next_due {
                Some(due) if due.since(now) <= Duration::from_secs(2) => {
                    shared.clock.sleep_until(due).await;
                    continue;
                }
                _ => return Ok(true),
            }
        };
        if refused || now >= until {
            return Ok(true);
        }
        let due = claimed.next_due.unwrap_or(now + Duration::from_millis(200));
        shared.clock.sleep_until(due.min(until).max(now + Duration::from_millis(20))).await;
    }
}

async fn claim(
    shared: &Shared,
    settings: &Settings,
    in_flight: &HashMap<WidgetName, usize>,
) -> imbabot_store::Result<imbabot_store::Claimed> {
    let owned = shared.ownership.now();
    let widgets: Vec<WidgetClaim> = settings
        .widgets
        .iter()
        .filter(|widget| owned.widget(&widget.name).is_some())
        .map(|widget| {
            let busy = in_flight.get(&widget.name).copied().unwrap_or_default();
            let most = shared.breaker(&widget.name, |b| b.slots(settings.delivery.concurrency));
            shared.board.widget(&widget.name, |status| status.in_flight = busy);
            WidgetClaim {
                widget: widget.name.clone(),
                slots: most.saturating_sub(busy),
                interval: settings.delivery.rate.interval(),
                room_interval: settings.delivery.rate_per_room.interval(),
            }
        })
        .filter(|claim| claim.slots > 0)
        .collect();
    if widgets.is_empty() {
        return Ok(imbabot_store::Claimed::default());
    }
    let begun = shared.clock.elapsed();
    let request = ClaimRequest {
        now: shared.clock.now(),
        incarnation: shared.incarnation,
        widgets,
        only: None,
    };
    let claimed = shared.store.claim(request).await?;
    if !claimed.deliveries.is_empty() {
        let took = shared.clock.elapsed().saturating_sub(begun);
        shared.metrics.observe(Family::store_commit_seconds, took.as_secs_f64());
    }
    Ok(claimed)
}

/// What is said while it is sent tells what it is about, whatever the filter.
fn span_of(delivery: &ClaimedDelivery) -> tracing::Span {
    tracing::error_span!(
        "delivery",
        delivery = %delivery.id,
        attempt = delivery.attempt,
        widget = %delivery.widget,
        room = %delivery.room,
        occurrence = delivery.occurrence.as_deref(),
    )
}

/// Whether what was claimed may be another's by now: the process stood still since then, while the
/// others waited for its heartbeat.
fn is_too_old(shared: &Shared, asked: Duration) -> bool {
    let lease = shared.ownership.now().lease();
    lease.is_some_and(|lease| shared.clock.elapsed().saturating_sub(asked) > lease - lease / 10)
}

/// One request and its record. It was claimed after `asked` had elapsed.
async fn attempt(
    shared: &Shared,
    settings: &Settings,
    delivery: ClaimedDelivery,
    asked: Duration,
) -> Result<(), Fatal> {
    let began = shared.clock.elapsed();
    let outcome = match settings.widget(&delivery.widget) {
        Some(_) if is_too_old(shared, asked) => {
            classify(&request(&delivery), Seen::TooLate, &ClassifyRules::default())
        }
        Some(widget) => send(shared, settings, widget, &delivery).await,
        // Removed by a reload between claim and send: nothing left.
        None => failed(&delivery, NetCode::Unsendable, "the widget is no longer configured"),
    };
    let next = decide(shared, settings, &delivery, &outcome).await;
    let now = shared.clock.now();
    let told = match outcome.advice {
        Advice::CheckCredentials => outcome.class != Class::Rejected,
        // Where other settings led to says nothing about these.
        Advice::Redirect { .. } => in_force(shared, settings),
        // Nobody was asked.
        _ => outcome.code != OutcomeCode::ClaimTooOld,
    };
    if told {
        let redirected =
            shared.breaker(&delivery.widget, |b| b.attempt(now, outcome.class, &outcome.advice));
        if let (true, Advice::Redirect { origin }) = (redirected, &outcome.advice) {
            tell_redirect(&delivery.widget, "send_msg", origin);
        }
    }
    if let Advice::RetryAfter(wait) = outcome.advice {
        let until = now + wait.unwrap_or(RETRY_AFTER);
        for _ in 0..SETTLE_TRIES {
            match shared.store.hold_widget(&delivery.widget, until).await {
                Ok(()) => {
                    shared.store_works("hold_widget");
                    break;
                }
                // The new owner finds out by itself. What was seen is recorded all the same.
                Err(error) if *error.kind() == ErrorKind::Fenced => break,
                Err(error) => shared.store_failed("hold_widget", error).await?,
            }
        }
    }
    tell(&outcome);
    if let Next::Delivered { time: Some(server_time), .. } = next {
        let (room, ended) = (delivery.room, shared.clock.elapsed());
        let sent = Sent { room, server_time, began, ended };
        shared.activity(&delivery.widget, |activity| activity.sent(sent));
    }
    settle(shared, settings, &delivery, outcome, next).await
}

async fn send(
    shared: &Shared,
    settings: &Settings,
    widget: &WidgetSettings,
    delivery: &ClaimedDelivery,
) -> SendOutcome {
    let request = request(delivery);
    let answer = widget.api.send_msg(&request).boxed();
    let patience = shared.clock.sleep(settings.delivery.timeout + MARGIN);
    match select(answer, patience).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), _)) => failed(delivery, NetCode::Timeout, "no answer in time"),
    }
}

/// What follows an attempt.
async fn decide(
    shared: &Shared,
    settings: &Settings,
    delivery: &ClaimedDelivery,
    outcome: &SendOutcome,
) -> Next {
    let now = shared.clock.now();
    match (outcome.class, &outcome.advice) {
        (Class::Delivered, _) => match &outcome.receipt {
            Some(receipt) => Next::Delivered {
                message: receipt.message.id,
                uuid: receipt.message.uuid.clone(),
                time: receipt.message.time,
            },
            // A confirmation without a message confirms nothing.
            None => Next::Unknown,
        },
        (Class::Ambiguous, _) => Next::Unknown,
        (Class::NotSent, Advice::None) => Next::Retry { at: now },
        (Class::NotSent, _) => Next::Retry { at: now + backoff(shared, settings, delivery.misses) },
        (Class::Rejected, Advice::RetryAfter(wait)) => {
            Next::Retry { at: now + wait.unwrap_or(RETRY_AFTER) }
        }
        // The breaker holds it; a reload lets it go at once.
        (Class::Rejected, Advice::Redirect { .. }) => Next::Retry { at: now },
        (Class::Rejected, Advice::CheckCredentials) => {
            check_credentials(shared, settings, delivery).await
        }
        (Class::Rejected, _) => Next::Dead(DeadReason::Rejected),
    }
}

/// Refused with 401 or 403: is it the secret key, or only this sender in this room?
async fn check_credentials(
    shared: &Shared,
    settings: &Settings,
    delivery: &ClaimedDelivery,
) -> Next {
    let now = shared.clock.now();
    let Some(widget) = settings.widget(&delivery.widget) else { return Next::Retry { at: now } };
    // One asks; who was refused meanwhile waits for the answer, as everything else does.
    if !shared.breaker(&delivery.widget, Breaker::check) {
        return Next::Retry { at: now };
    }
    let patience = shared.clock.sleep(settings.delivery.timeout + MARGIN);
    let probe = match select(widget.api.probe_credentials().boxed(), patience).await {
        Either::Left((probe, _)) => Some(probe),
        Either::Right(((), _)) => None,
    };
    let now = shared.clock.now();
    match probe {
        // Another key may be in force by now: what this one is worth says nothing about that.
        _ if !in_force(shared, settings) => {
            shared.breaker(&delivery.widget, Breaker::checked);
            Next::Retry { at: now }
        }
        Some(Probe::Accepted) => {
            shared.breaker(&delivery.widget, Breaker::checked);
            Next::Dead(DeadReason::Rejected)
        }
        Some(Probe::Refused(_)) => {
            let news = shared.breaker(&delivery.widget, |breaker| {
                breaker.checked();
                breaker.credentials_refused(now, Refused::Key)
            });
            if news {
                tell_refused(&delivery.widget, "send_msg", Refused::Key);
            }
            Next::Retry { at: now }
        }
        // Refused is refused: it was not applied, so trying again is safe.
        Some(Probe::Undecided(_)) | None => {
            shared.breaker(&delivery.widget, |breaker| breaker.check_failed(now));
            Next::Retry { at: now + backoff(shared, settings, delivery.misses) }
        }
    }
}

/// Whether nothing was reloaded since.
fn in_force(shared: &Shared, settings: &Settings) -> bool {
    std::ptr::eq(settings, &raw const **shared.settings.load())
}

/// Full jitter: anything between nothing and the bound, so that many rows do not come back at once.
fn backoff(shared: &Shared, settings: &Settings, misses: u32) -> Duration {
    let (min, max) = settings.delivery.backoff;
    let bound = min.saturating_mul(1 << misses.min(20)).min(max);
    bound.mul_f64(shared.jitter()).max(min.min(max) / 2)
}

async fn settle(
    shared: &Shared,
    settings: &Settings,
    delivery: &ClaimedDelivery,
    outcome: SendOutcome,
    next: Next,
) -> Result<(), Fatal> {
    let settled = Settled {
        delivery: delivery.id,
        attempt: delivery.attempt,
        class: class_of(outcome.class),
        code: outcome.code.as_str().to_owned(),
        http_status: outcome.http_status,
        detail: outcome.detail.clone(),
        next,
    };
    let rules = settings.delivery.settle;
    for _ in 0..SETTLE_TRIES {
        let now = shared.clock.now();
        let begun = shared.clock.elapsed();
        match shared.store.settle(now, rules, vec![settled.clone()]).await {
            Ok(recorded) => {
                let took = shared.clock.elapsed().saturating_sub(begun);
                shared.metrics.observe(Family::store_commit_seconds, took.as_secs_f64());
                shared.store_works("settle");
                for record in recorded {
                    count(shared, delivery, &record, now);
                    if record.foreign_answer
                        && let Some(widget) = settings.widget(&delivery.widget)
                    {
                        widget.api.retire_connections();
                    }
                }
                shared.bells.timer.notify_one();
                shared.bells.dispatcher.notify_one();
                return Ok(());
            }
            Err(error) => shared.store_failed("settle", error).await?,
        }
    }
    // What happened is known here and cannot be written: the next start says `unknown`, which is
    // the truth about a process that lost its store.
    Err(Fatal::Store(imbabot_store::Error::new(
        imbabot_store::ErrorKind::Io,
        "the outcome of a request could not be recorded for half a minute",
    )))
}

fn count(
    shared: &Shared,
    delivery: &ClaimedDelivery,
    record: &imbabot_store::Recorded,
    now: Timestamp,
) {
    let metrics = &shared.metrics;
    metrics.count(Family::send_attempts_total, &[record.class.as_str()]);
    if record.state == DeliveryState::Delivered {
        let since = now.since(delivery.not_before.max(delivery.created_at));
        metrics.observe(Family::delivery_latency_seconds, since.as_secs_f64());
    }
    if record.foreign_answer {
        tracing::warn!(
            code = "IMB-D-FOREIGN-ANSWER",
            "the answer names a message that another delivery became: the outcome is unknown"
        );
    }
}

/// One line per attempt.
fn tell(outcome: &SendOutcome) {
    let (code, detail) = (outcome.code.as_str(), &outcome.detail);
    let status = outcome.http_status;
    match outcome.class {
        Class::Delivered => {
            let odd = outcome.receipt.as_ref().is_some_and(|r| r.echo_differs || r.salvaged);
            if odd {
                tracing::warn!(code, "delivered, with an odd answer: {detail}");
            } else {
                tracing::info!("delivered");
            }
        }
        Class::NotSent if outcome.code == OutcomeCode::ClaimTooOld => {
            tracing::warn!(code, "not sent: {detail}");
        }
        Class::NotSent => {
            tracing::debug!(code, "not sent, no byte of it arrived: {detail}; tried again");
        }
        Class::Rejected => tracing::warn!(code, status, "rejected: {detail}"),
        Class::Ambiguous => {
            tracing::warn!(code, status, "nobody knows whether it was posted: {detail}");
        }
    }
}

fn class_of(class: Class) -> imbabot_store::Class {
    match class {
        Class::Delivered => imbabot_store::Class::Delivered,
        Class::NotSent => imbabot_store::Class::NotSent,
        Class::Rejected => imbabot_store::Class::Rejected,
        Class::Ambiguous => imbabot_store::Class::Ambiguous,
    }
}

/// What an attempt means that the transport itself did not see to its end.
fn failed(delivery: &ClaimedDelivery, code: NetCode, why: &str) -> SendOutcome {
    let error = TransportError::new(code, why);
    classify(&request(delivery), Seen::Failed(&error), &ClassifyRules::default())
}

fn request(delivery: &ClaimedDelivery) -> SendMsg {
    SendMsg::new(delivery.sender.clone(), delivery.room, delivery.text.clone())
        .with_delivery(delivery.id.to_string(), delivery.attempt)
}
