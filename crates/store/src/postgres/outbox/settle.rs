//! What the outcomes of attempts lead to. What is known of an attempt stays known; only proof moves a
//! delivery on.

use std::collections::{HashMap, HashSet};

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;

use super::attempt::AttemptEnd;
use super::step::Step;
use crate::error::Result;
use crate::lifecycle::Settle;
use crate::outbox::{Class, DeliveryState, Next, Recorded, Settled};
use crate::postgres::Bodies;
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::link::Gathering;
use crate::postgres::row::{get, held, id};
use crate::postgres::tx::{Tx, params};
use crate::rules::{FOREIGN_UUID_WINDOW, agrees};

/// What one caller tells: when, by which rules, of which attempts.
pub(super) type Told = (Timestamp, Settle, Vec<Settled>);
/// What callers tell at about the same time, and what each of them is answered.
pub(in crate::postgres) type Outcomes = Gathering<Told, Vec<Recorded>>;

/// Records what several callers tell, and answers each.
pub(super) async fn settle_all(
    tx: &Tx<'_>,
    told: &[Told],
    bodies: Bodies,
) -> Result<Vec<Vec<Recorded>>> {
    let Some(now) = told.iter().map(|(now, ..)| *now).max() else { return Ok(Vec::new()) };
    let outcomes: Vec<(&Settled, Settle)> = told
        .iter()
        .flat_map(|(_, rules, outcomes)| outcomes.iter().map(|outcome| (outcome, *rules)))
        .collect();
    // In the order of the outcomes, without those of deliveries that are gone.
    let mut recorded = settle(tx, now, &outcomes, bodies).await?.into_iter().peekable();
    let answer = |outcomes: &Vec<Settled>| {
        let of = |outcome: &Settled| recorded.next_if(|r| r.delivery == outcome.delivery);
        outcomes.iter().filter_map(of).collect()
    };
    Ok(told.iter().map(|(_, _, outcomes)| outcomes).map(answer).collect())
}

async fn settle(
    tx: &Tx<'_>,
    now: Timestamp,
    outcomes: &[(&Settled, Settle)],
    bodies: Bodies,
) -> Result<Vec<Recorded>> {
    let ids: Vec<&[u8]> = outcomes.iter().map(|(o, _)| o.delivery.as_bytes().as_slice()).collect();
    let rows = tx
        .rows("SELECT widget, room, sender, id, seq FROM delivery WHERE id = ANY($1)", params![ids])
        .await?;
    let lanes: Lanes = rows.iter().map(Lane::read).collect::<Result<_>>()?;
    let seqs: HashMap<DeliveryId, i64> =
        rows.iter().map(|row| Ok((id(row, 3)?, get(row, 4)?))).collect::<Result<_>>()?;
    lanes.lock(tx).await?;
    let mut step = Step::new(now, bodies);
    step.load(tx, &seqs.values().copied().collect::<Vec<_>>()).await?;
    let attempts: Vec<(i64, u32)> = outcomes
        .iter()
        .filter_map(|(outcome, _)| Some((*seqs.get(&outcome.delivery)?, outcome.attempt)))
        .collect();
    step.load_attempts(tx, &attempts).await?;
    let mut answers = Answers::of(tx, now, &step, &seqs, outcomes).await?;
    let mut told = Vec::new();
    for (place, (outcome, rules)) in outcomes.iter().enumerate() {
        let known = seqs.get(&outcome.delivery).filter(|seq| step.rows.contains_key(seq));
        if let Some(seq) = known {
            told.push(record(&mut step, *rules, *seq, place, outcome, &mut answers)?);
        }
    }
    step.commit(tx, &lanes).await?;
    Ok(told)
}

fn record(
    step: &mut Step,
    settle: Settle,
    seq: i64,
    place: usize,
    outcome: &Settled,
    answers: &mut Answers,
) -> Result<Recorded> {
    let row = step.row(seq)?;
    let (state, attempts) = (row.record.state, row.attempts);
    let widget = row.record.widget.to_string();
    let (mut class, mut code, mut next) =
        (outcome.class, outcome.code.as_str(), outcome.next.clone());
    if !agrees(class, &next) {
        // Only proof moves a row on: what contradicts itself proves nothing.
        (class, next) = (Class::Ambiguous, Next::Unknown);
    }
    let foreign_answer = answers.names_another(place, seq, &widget, &next);
    if foreign_answer {
        (class, code, next) = (Class::Ambiguous, "foreign_answer", Next::Unknown);
    }
    // Where no texts are kept, the server's words are not kept either: they may quote one.
    let kept = step.bodies == Bodies::Full || outcome.http_status.is_none();
    let detail = (kept && !outcome.detail.is_empty()).then_some(outcome.detail.as_str());
    let end = AttemptEnd { class, code, http_status: outcome.http_status, detail };
    let news = step.end_attempt(seq, outcome.attempt, &end)?;
    let own = attempts == outcome.attempt;
    let moves = match (state, &next) {
        // The usual case.
        (DeliveryState::Sending, _) => own && news,
        // A late answer, after the row was given up as unknown. A refusal ends the row only if
        // there was no later attempt: of that one nothing is known.
        (DeliveryState::Unknown, Next::Delivered { .. }) => news,
        (DeliveryState::Unknown, Next::Dead(_)) => own && news,
        // Too late to move anything; the attempt's own record tells what was seen.
        _ => false,
    };
    let state = if moves {
        match &next {
            Next::Delivered { message, uuid, time } => {
                answers.became(seq, &widget, &next);
                step.deliver(seq, *message, uuid.as_deref(), *time)?
            }
            Next::Retry { at } => step.retry(seq, *at, class == Class::NotSent)?,
            Next::Dead(reason) => step.end(seq, *reason)?,
            Next::Unknown => step.turn_unknown(seq, settle, code)?,
        }
    } else {
        state
    };
    Ok(Recorded { delivery: outcome.delivery, class, state, foreign_answer })
}

/// Which messages other deliveries became a short while ago.
struct Answers {
    /// The outcomes that name one of those.
    foreign: HashSet<usize>,
    /// What became of others in this step.
    uuids: HashMap<String, i64>,
    messages: HashMap<(String, u64), i64>,
}

impl Answers {
    async fn of(
        tx: &Tx<'_>,
        now: Timestamp,
        step: &Step,
        seqs: &HashMap<DeliveryId, i64>,
        outcomes: &[(&Settled, Settle)],
    ) -> Result<Self> {
        let mut answers =
            Self { foreign: HashSet::new(), uuids: HashMap::new(), messages: HashMap::new() };
        let (mut places, mut of, mut widgets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut messages, mut uuids) = (Vec::new(), Vec::new());
        for (place, (outcome, _)) in outcomes.iter().enumerate() {
            let row = seqs.get(&outcome.delivery).and_then(|seq| step.rows.get(seq));
            if let (Some(row), Next::Delivered { message, uuid, .. }) = (row, &outcome.next) {
                places.push(i64::try_from(place).unwrap_or(i64::MAX));
                of.push(row.seq);
                widgets.push(row.record.widget.as_str());
                messages.push(message.0.cast_signed());
                uuids.push(uuid.as_deref().map(|uuid| held(uuid).into_owned()));
            }
        }
        if places.is_empty() {
            return Ok(answers);
        }
        let since = (now - FOREIGN_UUID_WINDOW).as_micros();
        // Two answers that name one message come at the same moment; whoever is second has to see what
        // the first one wrote. Nothing but this waits for these rows. One round trip: the server does
        // one after the other.
        let lock = async {
            tx.execute(
                "SELECT 1 FROM widget WHERE name = ANY($1) ORDER BY name FOR NO KEY UPDATE",
                params![widgets],
            )
            .await
        };
        let look = async {
            // The numbers of two servers have nothing to do with each other.
            tx.rows(
                "SELECT k.place FROM unnest($1, $2, $3, $4, $5)
                     AS k (place, seq, widget, message, uuid)
                 WHERE EXISTS (SELECT 1 FROM delivery d WHERE d.server_uuid = k.uuid
                               AND d.seq <> k.seq AND d.ended_at >= $6)
                    OR EXISTS (SELECT 1 FROM delivery d WHERE d.server_message_id = k.message
                               AND d.widget = k.widget AND d.seq <> k.seq AND d.ended_at >= $6)",
                params![places, of, widgets, messages, uuids, since],
            )
            .await
        };
        let (locked, rows) = tokio::join!(lock, look);
        locked?;
        let rows = rows?;
        for row in &rows {
            answers.foreign.insert(usize::try_from(get::<i64>(row, 0)?).unwrap_or(usize::MAX));
        }
        Ok(answers)
    }

    fn names_another(&self, place: usize, seq: i64, widget: &str, next: &Next) -> bool {
        let Next::Delivered { message, uuid, .. } = next else { return false };
        let other = |found: Option<&i64>| found.is_some_and(|of| *of != seq);
        self.foreign.contains(&place)
            || uuid.as_ref().is_some_and(|uuid| other(self.uuids.get(uuid)))
            || other(self.messages.get(&(widget.to_owned(), message.0)))
    }

    fn became(&mut self, seq: i64, widget: &str, next: &Next) {
        if let Next::Delivered { message, uuid, .. } = next {
            self.messages.insert((widget.to_owned(), message.0), seq);
            if let Some(uuid) = uuid {
                self.uuids.insert(uuid.clone(), seq);
            }
        }
    }
}
