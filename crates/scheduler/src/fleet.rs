//! The heartbeats of an instance that shares its store with others: it says which units it can serve,
//! hears what it owns, and lets the other parts know. Decides nothing about who owns what, and sends
//! nothing. Where the store is for one instance there is no such task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use imbabot_bot::WidgetName;
use imbabot_store::{Error, ErrorKind, Membership, Result, Standing, Stoppage, Unit};

use crate::metrics::Family;
use crate::ownership::Owned;
use crate::shared::{FLEET, Fatal, Shared};
use crate::status::{FleetStatus, NotReady};

const TASK: &str = "fleet";
/// How the store's verb is called where its failures are told.
const OP: &str = "heartbeat";
/// So many heartbeats fit into a lease: some may be lost.
const PER_LEASE: u32 = 5;
/// After a failure the next try comes after this, and each further one after twice as long.
const AGAIN: Duration = Duration::from_millis(250);

/// Heartbeats until whoever runs the tasks drops this one, which is when all others have ended: what they
/// finish while the engine stops is finished under a lease.
pub(crate) async fn run(shared: Arc<Shared>) -> std::result::Result<(), Fatal> {
    let mut heard = shared.last_heard();
    let mut due = heard + shared.ownership.now().lease().unwrap_or_default() / PER_LEASE;
    let mut failures = 0_u32;
    let mut said_goodbye = false;
    loop {
        let Some(lease) = shared.ownership.now().lease() else { return Ok(()) };
        let every = lease / PER_LEASE;
        let stopping = shared.stop.is_cancelled();
        let now = shared.clock.elapsed();
        if now >= due || (stopping && !said_goodbye) {
            said_goodbye = stopping;
            match beat_or_stand_by(&shared, heard, believed(heard, lease)).await {
                Ok(()) => {
                    (heard, failures) = (now, 0);
                    due = now + every;
                    shared.store_works(OP);
                    shared.beat(TASK, "heard");
                }
                Err(error) => {
                    failures += 1;
                    failed(&shared, error, failures == 1)?;
                    let pause = AGAIN.saturating_mul(1 << (failures - 1).min(10));
                    due = shared.clock.elapsed() + pause.min(every);
                    shared.beat(TASK, "not heard");
                }
            }
        }
        let now = shared.clock.elapsed();
        let believed_until = believed(heard, lease);
        if failures > 0 && now >= believed_until {
            stand_by(&shared, now.saturating_sub(heard));
        }
        let until =
            if failures > 0 && now < believed_until { due.min(believed_until) } else { due };
        tokio::select! {
            () = shared.stop.cancelled(), if !stopping => {}
            () = shared.bells.fleet.notified() => due = due.min(shared.clock.elapsed()),
            () = shared.clock.sleep(until.saturating_sub(now)) => {}
        }
    }
}

/// Until when an instance that was heard then goes on: before the others take over, not after.
fn believed(heard: Duration, lease: Duration) -> Duration {
    heard + lease - lease / 10
}

/// One heartbeat. A store that neither answers nor fails is as good as none once the lease has run out;
/// what it answers after all is as good as ever.
async fn beat_or_stand_by(
    shared: &Shared,
    heard: Duration,
    believed_until: Duration,
) -> Result<()> {
    let beating = std::pin::pin!(beat(shared));
    let left = believed_until.saturating_sub(shared.clock.elapsed());
    match select(beating, shared.clock.sleep(left)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), beating)) => {
            shared.board.reason(NotReady::StoreUnwritable, OP, true);
            stand_by(shared, shared.clock.elapsed().saturating_sub(heard));
            beating.await
        }
    }
}

/// One heartbeat, and what follows from its answer. The first one of a run is that by which it learns
/// whether it has company at all.
pub(crate) async fn beat(shared: &Shared) -> Result<()> {
    let settings = shared.settings.load_full();
    let serves: Vec<Unit> = if shared.stop.is_cancelled() {
        // Others begin at once with what is not begun here any more.
        Vec::new()
    } else {
        let widgets = settings.widgets.iter().map(|widget| Unit::Widget(widget.name.clone()));
        std::iter::once(Unit::Schedules).chain(widgets).collect()
    };
    let asked = shared.clock.elapsed();
    let beating = shared.store.heartbeat(shared.incarnation, &serves, settings.delivery.settle);
    let Standing::Member(membership) = beating.await? else { return Ok(()) };
    shared.clock.hear(membership.now, asked);
    shared.heard_fleet(asked);
    for (incarnation, unknown) in &membership.ended {
        tracing::warn!(
            code = "IMB-S-ENDED",
            run = incarnation.0,
            unknown,
            "another instance was out of touch with the store for longer than its lease: its run was \
             ended, and what it owned is taken over"
        );
    }
    apply(shared, &membership).await
}

async fn apply(shared: &Shared, membership: &Membership) -> Result<()> {
    let (before, owned) = (shared.ownership.now(), Owned::of(membership));
    let (gained, lost) = (owned.gained_since(&before), owned.lost_since(&before));
    if !gained.is_empty() {
        let stoppages = shared.store.lasting_stoppages().await?;
        for widget in &gained {
            take_over(shared, widget, &stoppages);
        }
    }
    let moved = *before != owned;
    shared.ownership.set(owned);
    gained.iter().for_each(|widget| shared.breaker(widget, |_| ()));
    lost.iter().for_each(|widget| shared.give_away(widget));
    show(shared, membership);
    if moved {
        tracing::info!(
            gained = gained.len(),
            lost = lost.len(),
            units = membership.units.len(),
            alive = membership.alive,
            "what this instance owns has changed"
        );
        crate::engine::wake(shared);
    }
    Ok(())
}

/// A widget is ours from now on. Who had it may have known that nothing reaches its server.
fn take_over(shared: &Shared, widget: &WidgetName, stoppages: &[Stoppage]) {
    let scope = format!("widget/{widget}");
    let of_widget: Vec<&Stoppage> = stoppages.iter().filter(|stop| stop.scope == scope).collect();
    shared.take_breaker(widget, &of_widget);
    // Until its first list.
    shared.board.reason(NotReady::Starting, widget.as_str(), true);
}

fn show(shared: &Shared, membership: &Membership) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    let gauge = |count: usize| count as f64;
    shared.metrics.set(Family::units_owned, &[], gauge(membership.units.len()));
    shared.metrics.set(Family::instances_alive, &[], gauge(membership.alive));
    shared.board.reason(NotReady::Draining, FLEET, membership.draining);
    shared.board.fleet(FleetStatus {
        incarnation: shared.incarnation,
        alive: membership.alive,
        units: membership.units.iter().map(|(unit, term)| (unit.to_string(), *term)).collect(),
        draining: membership.draining,
        last_heartbeat: shared.clock.now(),
    });
}

fn failed(shared: &Shared, error: Error, first: bool) -> std::result::Result<(), Fatal> {
    shared.metrics.count(Family::store_errors_total, &[OP]);
    if *error.kind() == ErrorKind::Fenced {
        return Err(shared.fenced(error));
    }
    shared.board.reason(NotReady::StoreUnwritable, OP, true);
    if !error.is_retryable() && *error.kind() != ErrorKind::Undecodable {
        return Err(Fatal::Store(error));
    }
    if first {
        tracing::warn!(
            code = error.code(),
            op = OP,
            "{error}; trying again until the lease has run out, and after that"
        );
    } else {
        tracing::debug!(code = error.code(), op = OP, "{error}");
    }
    Ok(())
}

/// The store was not heard for so long that others may have taken over: nothing is begun before it is.
fn stand_by(shared: &Shared, silent: Duration) {
    let before = shared.ownership.now();
    let owned = before.nothing();
    if *before == owned {
        return;
    }
    tracing::warn!(
        code = "IMB-S-UNHEARD",
        "the store was not heard for {} s, and the lease has run out: nothing is polled or sent before it \
         is heard again",
        silent.as_secs()
    );
    let lost = owned.lost_since(&before);
    shared.ownership.set(owned);
    lost.iter().for_each(|widget| shared.give_away(widget));
    shared.metrics.set(Family::units_owned, &[], 0.0);
    shared.board.no_units();
    crate::engine::wake(shared);
}
