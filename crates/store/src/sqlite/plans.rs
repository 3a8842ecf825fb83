//! How SQLite goes about every statement that the verbs really ran: what runs for each message or
//! event goes by an index, in an empty store and in a full one whose statistics are known.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{BotName, DeliveryId, MemoryWrite, Policy, RoomChange, Seen, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp};
use rusqlite::StatementStatus;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::link::Link;
use super::{Bodies, SqliteStore};
use crate::{
    Born, ClaimRequest, Class, DeadReason, EventBody, EventClaim, EventEntry, Handled, Inbox,
    Lifecycle, ListKind, NewDelivery, NewEvent, Next, Outbox, PollCommit, SendLimits, Settle,
    Settled, Snapshots, WidgetClaim,
};

const RULES: Settle = Settle {
    wait: Duration::from_secs(10),
    max_resends: 1,
    unresolved_after: Duration::from_secs(1_000),
};

/// The tables that grow with what is said and heard.
const GROWING: [&str; 7] =
    ["delivery", "attempt", "event", "inbox", "ledger", "lane", "occurrence"];

/// Aliases under which statements name them.
const ALIASES: [&str; 6] = ["a", "d", "e", "i", "l", "n"];

struct Workload {
    store: SqliteStore,
    seen: Arc<Mutex<BTreeSet<String>>>,
    /// Those that were compiled again before they ran.
    anew: Arc<Mutex<BTreeSet<String>>>,
    now: Timestamp,
    turn: u64,
}

fn bot() -> BotName {
    "b".parse().unwrap()
}

fn widget() -> WidgetName {
    "w".parse().unwrap()
}

impl Workload {
    fn new() -> Self {
        let store = SqliteStore::in_memory(Bodies::Full).unwrap();
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let now = Timestamp::from_seconds(1_772_323_200);
        block_on(store.begin(now, "1", RULES)).unwrap();
        block_on(store.adopt_bots(now, &[bot()])).unwrap();
        Self { store, seen, anew: Arc::default(), now, turn: 0 }
    }

    fn on_connection<T>(&self, act: impl FnOnce(&mut rusqlite::Connection) -> T) -> T {
        let Link::Inline(connection) = &self.store.link else { unreachable!() };
        act(&mut connection.lock().unwrap())
    }

    /// From here on every statement is noted.
    fn listen(&self) {
        let (seen, anew) = (Arc::clone(&self.seen), Arc::clone(&self.anew));
        let note = move |event: TraceEvent<'_>| {
            if let TraceEvent::Stmt(statement, _) = event {
                if statement.get_status(StatementStatus::RePrepare) > 0 {
                    anew.lock().unwrap().insert(statement.sql().into_owned());
                }
                seen.lock().unwrap().insert(statement.sql().into_owned());
            }
        };
        self.on_connection(|connection| {
            connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note)).unwrap();
        });
    }

    /// All the verbs that run for each message and each event, in every way.
    fn round(&mut self) {
        let store = &self.store;
        self.turn += 1;
        self.now = self.now + Duration::from_secs(20);
        let (now, turn) = (self.now, self.turn);
        let room = |n: u64| {
            let mut room = Room::new(RoomId(turn % 50 + n), "r");
            room.updated_at = Some(now);
            Box::new(room)
        };
        let event = |n, change| NewEvent {
            widget: widget(),
            at: now,
            body: EventBody::Room { change, room: room(n), before: None },
            recipients: vec![bot()],
        };
        let events = vec![
            event(0, RoomChange::Opened),
            event(0, RoomChange::Touched),
            event(1, RoomChange::Opened),
        ];
        let list = ListKind::Rooms;
        block_on(store.commit_poll(PollCommit {
            widget: widget(),
            list,
            now,
            changes: vec![],
            events,
            last: true,
        }))
        .unwrap();
        for (n, entry) in self.entries().into_iter().enumerate() {
            let (retry, reason) = ((n == 1).then_some(now), "error");
            if n == 0 {
                block_on(store.commit_handled(self.handled(&entry))).unwrap();
            } else {
                block_on(store.fail_event(&entry, now, reason, retry)).unwrap();
            }
        }
        block_on(store.fire_wakes(now)).unwrap();
        self.deliver();
        block_on(store.hold_widget(&widget(), now)).unwrap();
        block_on(store.sweep(now, RULES, 100)).unwrap();
        block_on(store.waits_behind_others(DeliveryId::of_key("k1"))).unwrap();
        block_on(store.delivery(DeliveryId::of_key("k1"))).unwrap();
    }

    fn entries(&self) -> Vec<EventEntry> {
        let claim = EventClaim { now: self.now, free: vec![(bot(), 4)], ahead: Vec::new() };
        block_on(self.store.claim_events(claim)).unwrap().0
    }

    fn handled(&self, entry: &EventEntry) -> Handled {
        let key = format!("m{}", self.turn % 3);
        let seen = block_on(self.store.remembered(&bot(), &widget(), &key)).unwrap();
        let based_on = Some(seen.map_or(Seen::Absent, |(_, version)| Seen::Version(version)));
        let value = (!self.turn.is_multiple_of(5)).then(|| self.turn.into());
        let send = |n: u64| NewDelivery {
            key: format!("k{}", self.turn * 10 + n),
            widget: widget(),
            room: RoomId(self.turn % 50 + n % 2),
            sender: 1.into(),
            bot: Some(bot()),
            event: Some(entry.event_name()),
            occurrence: None,
            schedule: None,
            policy: if n == 1 { Policy::AtLeastOnce } else { Policy::AtMostOnce },
            text: "text".into(),
            not_before: None,
            expires_at: self.now + Duration::from_secs(if n == 3 { 1 } else { 300 }),
            born: Born::Queued,
            detail: None,
            report: true,
        };
        Handled {
            entry: entry.clone(),
            now: self.now,
            sends: (0..5).map(send).collect(),
            wakes: vec![(key.clone(), self.now)],
            cancels: vec!["gone".into()],
            memory: vec![MemoryWrite { key, value, based_on }],
            limits: SendLimits {
                per_event: 9,
                per_bot: (1_000_000, Duration::from_secs(3_600)),
                per_bot_and_room: (1_000_000, Duration::from_secs(3_600)),
            },
        }
    }

    fn deliver(&self) {
        for (n, only) in [None, Some(DeliveryId::of_key("k11")), None].into_iter().enumerate() {
            let interval = if n == 0 { Duration::ZERO } else { Duration::from_secs(1) };
            let widgets = vec![WidgetClaim {
                widget: widget(),
                slots: 3,
                interval,
                room_interval: Duration::from_secs(1),
            }];
            let incarnation = crate::IncarnationId(1);
            let request = ClaimRequest { now: self.now, incarnation, widgets, only };
            let claimed = block_on(self.store.claim(request)).unwrap().deliveries;
            for (place, delivery) in claimed.into_iter().enumerate() {
                let (class, next) = match (self.turn as usize + place) % 5 {
                    0 => (Class::Ambiguous, Next::Unknown),
                    1 => (Class::NotSent, Next::Retry { at: self.now }),
                    2 => (Class::Rejected, Next::Dead(DeadReason::Rejected)),
                    _ => {
                        let uuid = Some(format!("u{}", self.turn * 10 + place as u64));
                        let message = imbabot_core::MessageId(self.turn * 10 + place as u64);
                        let time = Some(self.now);
                        (Class::Delivered, Next::Delivered { message, uuid, time })
                    }
                };
                let settled = Settled {
                    delivery: delivery.id,
                    attempt: delivery.attempt,
                    class,
                    code: "code".into(),
                    http_status: None,
                    detail: String::new(),
                    next,
                };
                block_on(self.store.settle(self.now, RULES, vec![settled])).unwrap();
            }
        }
    }

    /// The noted statements, each with the steps of its plan.
    fn plans(&self) -> Vec<(String, Vec<String>)> {
        let noted = std::mem::take(&mut *self.seen.lock().unwrap());
        let plan = |sql: &String| {
            let tidy = sql.split_whitespace().collect::<Vec<_>>().join(" ");
            let steps = self.on_connection(|connection| {
                let mut explained =
                    connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let steps = explained.raw_query().mapped(|row| row.get::<_, String>(3));
                steps.map(Result::unwrap).collect()
            });
            (tidy, steps)
        };
        let ours = |sql: &&String| {
            ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|word| sql.starts_with(word))
        };
        noted.iter().filter(ours).map(plan).collect()
    }
}

fn assert_by_index(plans: &[(String, Vec<String>)]) {
    assert!(plans.len() > 50, "the verbs ran: {}", plans.len());
    for (sql, steps) in plans {
        for step in steps {
            let table = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            let grows = table.is_some_and(|t| GROWING.contains(&t) || ALIASES.contains(&t));
            // An index that holds only a few rows may be walked: each has a condition.
            let few = ["delivery_sending", "inbox_running", "inbox_suspect"];
            let bounded = few.iter().any(|index| step.contains(index));
            assert!(!grows || bounded, "{step}: {sql}");
            assert!(!step.contains("TEMP B-TREE"), "{step}: {sql}");
            // All of a bot's entries, or all rows of a state, are as good as a whole table.
            assert!(!step.ends_with("PRIMARY KEY (bot=?)"), "{step}: {sql}");
        }
    }
    for (start, index) in [
        ("SELECT room, sender, ready_at FROM lane", "lane_ready"),
        ("SELECT seq FROM delivery WHERE widget = ?1 AND room = ?2 AND sender", "delivery_sending"),
        ("SELECT seq, state = 'queued',", "delivery_lane"),
        ("SELECT seq FROM delivery WHERE state = 'queued'", "delivery_expiry"),
        ("SELECT seq FROM delivery WHERE resend_at", "delivery_resend"),
        ("SELECT seq FROM delivery WHERE state = 'unknown'", "delivery_unknown"),
        ("SELECT EXISTS (SELECT 1 FROM delivery WHERE server_uuid", "delivery_uuid"),
        ("SELECT EXISTS (SELECT 1 FROM delivery WHERE server_message_id", "delivery_message"),
        ("SELECT count(*) FROM delivery WHERE bot = ?1 AND created_at", "delivery_bot"),
        ("SELECT count(*) FROM delivery WHERE bot = ?1 AND widget", "delivery_bot_room"),
        (
            "SELECT EXISTS (SELECT 1 FROM delivery WHERE widget = ?1 AND room = ?2 AND server_time",
            "delivery_room_time",
        ),
        ("SELECT EXISTS (SELECT 1 FROM attempt a JOIN delivery d", "delivery_room_unsure"),
        ("SELECT event FROM inbox WHERE bot = ?1 AND state = 'waiting'", "inbox_due"),
        ("SELECT min(due_at) FROM inbox", "inbox_due"),
        ("SELECT bot, state = 'running'", "inbox_suspect"),
        ("SELECT n.event FROM inbox n", "inbox_lane"),
        ("INSERT INTO inbox", "inbox_lane"),
    ] {
        let (sql, steps) = plans
            .iter()
            .find(|(sql, _)| sql.starts_with(start))
            .unwrap_or_else(|| panic!("nothing ran that starts with {start}"));
        let used = steps.iter().any(|step| step.contains(&format!("INDEX {index} ")));
        let used = used || steps.iter().any(|step| step.ends_with(&format!("INDEX {index}")));
        assert!(used, "{index}: {steps:?}: {sql}");
    }
}

#[test]
fn what_runs_for_each_message_and_event_goes_by_an_index() {
    let mut work = Workload::new();
    work.listen();
    (0..12).for_each(|_| work.round());
    assert_by_index(&work.plans());
}

#[test]
fn in_a_full_store_whose_statistics_are_known_it_still_does() {
    let mut work = Workload::new();
    (0..120).for_each(|_| work.round());
    work.on_connection(|connection| connection.execute_batch("ANALYZE").unwrap());
    work.listen();
    (0..12).for_each(|_| work.round());
    assert_by_index(&work.plans());
}

#[test]
fn no_statement_is_compiled_again_for_other_values() {
    let mut work = Workload::new();
    work.listen();
    (0..12).for_each(|_| work.round());
    let anew = work.anew.lock().unwrap();
    assert!(anew.is_empty(), "{}", anew.iter().cloned().collect::<Vec<_>>().join("\n"));
}
