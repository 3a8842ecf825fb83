//! Claiming: which deliveries may be sent now, by lane, rate and pause. Marks them as being sent, in
//! the transaction that found them; never decides what an outcome means.
//!
//! All widgets of a request are claimed for together, in a few rounds of a few statements each. A lane
//! or a rate that another transaction has at this moment is left to it, and found again.

mod find;
mod widget;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use imbabot_core::Timestamp;

use super::hold::{self, Held};
use super::rate::{self, believed};
use super::step::{Delivery, Step};
use super::sweep::SOON;
use crate::error::Result;
use crate::outbox::{
    AttemptRecord, ClaimRequest, Claimed, ClaimedDelivery, DeadReason, DeliveryState, WidgetClaim,
};
use crate::postgres::Bodies;
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::link::fenced;
use crate::postgres::paused::Paused;
use crate::postgres::row::{get, unreadable};
use crate::postgres::tx::{Tx, params};
use widget::{Ready, Widget};

/// A claim ends at most so many expired rows; the rest comes with the next one, so that what is
/// fresh does not wait for a long transaction.
const EXPIRED_PER_CLAIM: usize = 1_000;
/// What is not found after so many rounds is found by the next claim.
const ROUNDS: u32 = 8;

/// What one round writes.
#[derive(Default)]
struct Round {
    /// To be sent, each beside what it waited for.
    claims: Vec<(Delivery, Held)>,
    /// Lanes whose head has changed.
    refresh: Lanes,
    /// Lanes that wait for something outside of them.
    hold: Vec<(Lane, Option<Timestamp>)>,
    rates: HashMap<String, Timestamp>,
}

struct Claim<'r> {
    request: &'r ClaimRequest,
    widgets: Vec<Widget<'r>>,
    paused: Paused,
    step: Step,
    claimed: Claimed,
    expired: usize,
}

pub(super) async fn claim(tx: &Tx<'_>, request: &ClaimRequest, bodies: Bodies) -> Result<Claimed> {
    if tx.session() != Some(request.incarnation.0) {
        let ended = tx
            .maybe(
                "SELECT ended_at IS NOT NULL FROM incarnation WHERE id = $1 FOR SHARE",
                params![request.incarnation.0],
            )
            .await?;
        if ended.map_or(Ok(false), |row| get::<bool>(&row, 0))? {
            return Err(fenced());
        }
    }
    let mut names = HashSet::new();
    let paused = Paused::read(tx).await?;
    let mut asked: Vec<&WidgetClaim> = request
        .widgets
        .iter()
        .filter(|claim| claim.slots > 0 && !paused.widget(claim.widget.as_str()))
        .filter(|claim| names.insert(claim.widget.as_str()))
        .collect();
    let only = match request.only {
        None => None,
        Some(id) => {
            let Some(lane) = find::lane_of(tx, id).await? else { return Ok(Claimed::default()) };
            asked.retain(|claim| claim.widget.as_str() == lane.widget);
            Some(lane)
        }
    };
    if asked.is_empty() {
        return Ok(Claimed::default());
    }
    let now = request.now;
    let mut widgets = find::widgets(tx, request, &asked, only.as_ref()).await?;
    let back: Vec<&str> = widgets
        .iter()
        .filter(|widget| {
            !believed(widget.free_at, now, widget.ask.interval)
                || !believed(widget.judged_at, now, Duration::ZERO)
        })
        .map(|widget| widget.name)
        .collect();
    if !back.is_empty() {
        rate::clock_went_back(tx, now, &back).await?;
        widgets = find::widgets(tx, request, &asked, only.as_ref()).await?;
    }
    let mut claim = Claim {
        request,
        widgets,
        paused,
        step: Step::new(now, bodies),
        claimed: Claimed::default(),
        expired: 0,
    };
    claim.begin();
    for round in 0..ROUNDS {
        let ready = find::lanes(tx, now, &claim.widgets, round, only.as_ref()).await?;
        if ready.is_empty() {
            break;
        }
        claim.round(tx, round, ready).await?;
    }
    claim.end(tx, only.is_some()).await
}

impl Claim<'_> {
    fn wait_until(&mut self, at: Timestamp) {
        let due = &mut self.claimed.next_due;
        *due = Some(due.map_or(at, |due| due.min(at)));
    }

    /// Nothing more is claimed of this widget; when to come again for it is said herewith.
    fn stop(&mut self, place: usize, until: Option<Timestamp>) {
        let widget = &mut self.widgets[place];
        (widget.goes_on, widget.told) = (false, true);
        if let Some(until) = until {
            self.wait_until(until);
        }
    }

    /// Goes on only with widgets of which something may be sent now.
    fn begin(&mut self) {
        let now = self.request.now;
        for place in 0..self.widgets.len() {
            let widget = &self.widgets[place];
            let due = widget.ready_at.max(widget.next(now));
            if widget.ready_at > now {
                self.stop(place, Some(widget.ready_at));
            } else if due > now {
                self.stop(place, Some(due));
            }
        }
    }

    async fn round(&mut self, tx: &Tx<'_>, number: u32, ready: Vec<Ready>) -> Result<()> {
        let now = self.request.now;
        let mut found: HashMap<usize, i64> = HashMap::new();
        for lane in &ready {
            *found.entry(lane.widget).or_default() += 1;
        }
        for (place, widget) in self.widgets.iter_mut().enumerate() {
            // Fewer than were asked for: there are no more, unless a lane has a new head.
            let found = found.get(&place).copied().unwrap_or_default();
            widget.goes_on &= found >= widget.wants(number);
        }
        let mut round = Round::default();
        let (mut expired, mut candidates) = (Vec::new(), Vec::new());
        for ready in ready {
            let place = ready.widget;
            let Some(head) = &ready.head else {
                round.refresh.add(ready.lane);
                continue;
            };
            if self.request.only.is_some_and(|only| only != head.record.id) {
                self.stop(place, None);
            } else if head.record.state != DeliveryState::Queued {
                round.refresh.add(ready.lane);
            } else if head.record.expires_at <= now {
                expired.push((place, ready.lane));
            } else if head.record.bot.as_ref().is_some_and(|bot| self.paused.bot(bot.as_str())) {
                // `resume` refreshes the lane.
                round.hold.push((ready.lane, None));
                if self.request.only.is_some() {
                    self.stop(place, None);
                }
            } else {
                candidates.push(ready);
            }
        }
        self.expire(tx, expired, &mut round).await?;
        self.lock_rates(tx, &candidates).await?;
        let rooms = self.rooms(tx, &candidates).await?;
        for ready in candidates {
            self.consider(ready, &rooms, &mut round);
        }
        self.start(tx, &mut round).await?;
        self.step.save(tx).await?;
        round.refresh.refresh(tx, now).await?;
        find::hold(tx, &round.hold).await?;
        rate::take(tx, &round.rates).await?;
        for widget in &mut self.widgets {
            widget.goes_on &= widget.slots > 0 && widget.next(now) <= now;
        }
        Ok(())
    }

    /// Ends what has expired at the heads of lanes, with all the expired ones that wait behind it.
    async fn expire(
        &mut self,
        tx: &Tx<'_>,
        expired: Vec<(usize, Lane)>,
        round: &mut Round,
    ) -> Result<()> {
        if expired.is_empty() {
            return Ok(());
        }
        let now = self.request.now;
        let left = EXPIRED_PER_CLAIM.saturating_sub(self.expired);
        let most = if self.request.only.is_some() { 1 } else { left };
        let (places, lanes): (Vec<usize>, Vec<Lane>) = expired.into_iter().unzip();
        let runs = find::expired(tx, now, &lanes, most).await?;
        let mut ends = Vec::new();
        for ((place, lane), run) in places.into_iter().zip(lanes).zip(runs) {
            let room = left - ends.len();
            let whole = run.len() <= room && run.len() < most;
            ends.extend(run.into_iter().take(room));
            round.refresh.add(lane);
            if self.request.only.is_some() {
                self.stop(place, None);
            } else if whole {
                self.widgets[place].goes_on = !self.widgets[place].told;
            } else {
                self.stop(place, Some(now));
            }
        }
        self.step.load(tx, &ends).await?;
        for seq in &ends {
            self.step.end(*seq, DeadReason::Expired)?;
        }
        self.expired += ends.len();
        Ok(())
    }

    /// Whoever has the rate of a widget claims of it, and nobody else.
    async fn lock_rates(&mut self, tx: &Tx<'_>, candidates: &[Ready]) -> Result<()> {
        let mut places: Vec<usize> = candidates.iter().map(|ready| ready.widget).collect();
        places.dedup();
        places.retain(|place| !self.widgets[*place].ours);
        if places.is_empty() {
            return Ok(());
        }
        let these: Vec<(&str, bool)> =
            places.iter().map(|p| (self.widgets[*p].name, self.widgets[*p].there)).collect();
        let rates = rate::lock(tx, &these).await?;
        let silences: Vec<String> = these.iter().map(|(name, _)| rate::silence_key(name)).collect();
        let silences = rate::free_at(tx, &silences).await?;
        let soon = self.request.now + SOON;
        for place in places {
            let widget = &mut self.widgets[place];
            let silence = silences.get(&rate::silence_key(widget.name));
            widget.silent_until = silence.copied().unwrap_or(Timestamp::MIN);
            match rates.get(&rate::widget_key(widget.name)) {
                Some(free_at) => (widget.free_at, widget.ours) = (*free_at, true),
                None => self.stop(place, Some(soon)),
            }
        }
        Ok(())
    }

    async fn rooms(&self, tx: &Tx<'_>, candidates: &[Ready]) -> Result<HashMap<String, Timestamp>> {
        let ours = candidates.iter().filter(|ready| self.widgets[ready.widget].ours);
        let keys: Vec<String> = ours.map(Ready::room_key).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        rate::free_at(tx, &keys).await
    }

    /// Claims the head of a lane, if slots and rates let it.
    fn consider(&mut self, ready: Ready, rooms: &HashMap<String, Timestamp>, round: &mut Round) {
        let now = self.request.now;
        let place = ready.widget;
        let widget = &self.widgets[place];
        let room_key = ready.room_key();
        let Some(head) = ready.head.filter(|_| widget.ours && !widget.told && widget.slots > 0)
        else {
            return;
        };
        let next = widget.next(now);
        if next > now {
            return self.stop(place, Some(next));
        }
        let room_free = round.rates.get(&room_key).or_else(|| rooms.get(&room_key));
        let room_free = room_free.copied().unwrap_or(Timestamp::MIN);
        if room_free > now && believed(room_free, now, widget.ask.room_interval) {
            round.hold.push((ready.lane, Some(room_free)));
            if self.request.only.is_some() {
                self.stop(place, Some(room_free));
            }
            return;
        }
        let held = Held {
            widget: widget.name.to_owned(),
            bot: head.record.bot.as_ref().map(ToString::to_string),
            since: head.record.created_at.max(head.record.not_before).max(head.next_attempt_at),
            head_since: ready.head_since,
            room_free,
            silent_until: widget.silent_until,
            widget_free: widget.free_at,
        };
        round.rates.insert(room_key, now + widget.ask.room_interval);
        let free_at = now + widget.ask.interval;
        round.rates.insert(rate::widget_key(widget.name), free_at);
        round.refresh.add(ready.lane);
        round.claims.push((head, held));
        let widget = &mut self.widgets[place];
        widget.free_at = free_at;
        widget.slots -= 1;
    }

    /// queued → sending. The requests may leave once this is committed.
    async fn start(&mut self, tx: &Tx<'_>, round: &mut Round) -> Result<()> {
        let now = self.request.now;
        let (heads, held): (Vec<Delivery>, Vec<Held>) =
            std::mem::take(&mut round.claims).into_iter().unzip();
        let holds = hold::holds(tx, now, &held).await?;
        for (head, hold) in heads.into_iter().zip(holds) {
            let seq = head.seq;
            let record = &head.record;
            let text = record.text.clone().ok_or_else(|| unreadable("a message without a text"))?;
            let claimed = ClaimedDelivery {
                id: record.id,
                attempt: head.attempts + 1,
                widget: record.widget.clone(),
                room: record.room,
                sender: record.sender.clone(),
                bot: record.bot.clone(),
                occurrence: record.occurrence.clone(),
                policy: record.policy,
                text,
                created_at: record.created_at,
                not_before: record.not_before,
                expires_at: record.expires_at,
                misses: head.misses,
                ambiguous: head.ambiguous,
                started_at: now,
            };
            let attempt = AttemptRecord {
                delivery: claimed.id,
                n: claimed.attempt,
                incarnation: self.request.incarnation,
                started_at: now,
                ended_at: None,
                class: None,
                code: None,
                http_status: None,
                detail: None,
                held_by: hold.map(|(by, _)| by),
                held_since: hold.map(|(_, since)| since),
            };
            self.step.add(head);
            self.step.start(seq)?;
            self.step.begin_attempt(seq, attempt)?;
            self.claimed.deliveries.push(claimed);
        }
        Ok(())
    }

    /// Says when to come again, and tells the ledger.
    async fn end(mut self, tx: &Tx<'_>, only: bool) -> Result<Claimed> {
        let now = self.request.now;
        let left: Vec<usize> = (0..self.widgets.len())
            .filter(|place| !self.widgets[*place].told && self.widgets[*place].slots > 0)
            .collect();
        if only {
            // Not claimed, not held, nothing else in its way: another transaction has its lane.
            if self.claimed.deliveries.is_empty() && !left.is_empty() && self.step.rows.is_empty() {
                self.wait_until(now + SOON);
            }
        } else if !left.is_empty() {
            let names: Vec<&str> = left.iter().map(|place| self.widgets[*place].name).collect();
            for (nth, ready_at) in find::next(tx, &names).await? {
                let widget = &self.widgets[left[nth]];
                let at = match widget.next(now) {
                    _ if ready_at > now => ready_at,
                    free if free > now => free,
                    _ if widget.goes_on => now,
                    // Another transaction has it.
                    _ => now + SOON,
                };
                self.wait_until(at);
            }
        }
        self.claimed.expired = self.expired as u64;
        self.step.tell(tx).await?;
        Ok(self.claimed)
    }
}
