//! A whole store that moves from a file to PostgreSQL and back: everything that can be read of it is the
//! same afterwards, and it goes on as after a kill. `IMBABOT_TEST_POSTGRES` names the database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod given;
mod postgres_support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{BotName, DeliveryId, MemoryWrite, Policy, RoomChange, WidgetName};
use imbabot_core::{MessageId, Room, RoomId, User, UserId, WidgetId};
use imbabot_store::*;

use given::{RULES, at, message, widget};
use postgres_support::{Database, Hand, database};

const LEASE: Duration = Duration::from_secs(10);

fn w() -> WidgetName {
    "w".parse().unwrap()
}

fn bot() -> BotName {
    "b".parse().unwrap()
}

fn open(path: &Path, role: Role) -> Result<SqliteStore> {
    SqliteStore::open(path, role, Bodies::Full)
}

fn items(store: &dyn Store, list: ListKind, changes: Vec<ItemChange>, events: Vec<NewEvent>) {
    let poll = PollCommit { widget: w(), list, now: at(5), changes, events, last: true };
    block_on(store.commit_poll(poll)).unwrap();
}

/// A bit of everything, left in the middle of it: a kill follows.
fn lived_in(store: &dyn Store) {
    let run = block_on(store.begin(at(0), "1", RULES)).unwrap().incarnation;
    block_on(store.end(run, at(1))).unwrap();
    let run = block_on(store.begin(at(2), "1", RULES)).unwrap().incarnation;
    block_on(store.adopt_widgets(&[(w(), WidgetId(u64::MAX))])).unwrap();
    block_on(store.adopt_bots(at(2), &[bot()])).unwrap();
    deliveries(store, run);
    lists_and_events(store);
    schedules(store);
    block_on(store.hold_widget(&"held".parse().unwrap(), at(900))).unwrap();
    block_on(store.pause(at(20), &PauseScope::Bot(bot()), true)).unwrap();
    let capabilities = Capabilities { updated_at_moves: true, ..Capabilities::default() };
    let learned = Learned { widget: w(), source: Source::Doctor, at: at(21), capabilities };
    block_on(store.learn(learned)).unwrap();
    let sign = SignOfLife { at: at(22), stopped: false, status: "{\"a\":1}".into() };
    block_on(store.sign(sign)).unwrap();
    let care = Care { what: CareKind::Backup, at: at(23), well: true, told: "there".into() };
    block_on(store.cared(care)).unwrap();
}

fn deliveries(store: &dyn Store, run: IncarnationId) {
    let repeated =
        NewDelivery { policy: Policy::AtLeastOnce, expires_at: at(90_000), ..message("often", 2) };
    // What a bot may say and a server never gets.
    let odd = NewDelivery {
        text: "a \0 and a \u{1}, \u{1}0".into(),
        bot: Some(bot()),
        born: Born::Dead(DeadReason::Invalid),
        detail: Some("a \0".into()),
        ..message("odd \0", u64::MAX)
    };
    let all = vec![message("sent", 1), repeated, odd];
    block_on(store.enqueue(at(3), all)).unwrap();
    let claim = |now| {
        let widgets = vec![widget()];
        let request = ClaimRequest { now, incarnation: run, widgets, only: None };
        block_on(store.claim(request)).unwrap().deliveries
    };
    let mut claimed = claim(at(4));
    claimed.extend(claim(at(5)));
    assert_eq!(claimed.len(), 2);
    let (class, next) = (
        Class::Delivered,
        Next::Delivered { message: MessageId(77), uuid: Some("u".into()), time: Some(at(6)) },
    );
    for (key, class, next) in [("sent", class, next), ("often", Class::Ambiguous, Next::Unknown)] {
        let settled = Settled {
            delivery: DeliveryId::of_key(key),
            attempt: 1,
            class,
            code: "seen".into(),
            http_status: Some(200),
            detail: "words".into(),
            next,
        };
        block_on(store.settle(at(6), RULES, vec![settled])).unwrap();
    }
    let waiting = NewDelivery { not_before: Some(at(500)), ..message("later", 3) };
    block_on(store.enqueue(at(7), vec![message("on its way", 4), waiting])).unwrap();
    assert_eq!(claim(at(8)).len(), 1);
}

fn lists_and_events(store: &dyn Store) {
    let room = |id| Room::new(RoomId(id), format!("room {id}"));
    let item = |id: u64, gone| ItemChange {
        id,
        hash: u64::MAX - id,
        body: Some(serde_json::to_string(&room(id)).unwrap()),
        gone,
    };
    let opened = |id| NewEvent {
        widget: w(),
        at: at(5),
        body: EventBody::Room {
            change: RoomChange::Opened,
            room: Box::new(room(id)),
            before: None,
        },
        recipients: vec![bot()],
    };
    let changes = vec![item(1, false), item(2, true), item(u64::MAX, false)];
    items(store, ListKind::Rooms, changes, vec![opened(1), opened(1), opened(1), opened(9)]);
    let body = Some(serde_json::to_string(&User::new(UserId(1))).unwrap());
    items(store, ListKind::Users, vec![ItemChange { id: 1, hash: 4, body, gone: false }], vec![]);
    let claim = || {
        block_on(store.claim_events(EventClaim {
            now: at(6),
            free: vec![(bot(), 9)],
            ahead: vec![],
        }))
    };
    // One is handled, one runs when the process dies, one waits behind it; one is poisoned.
    let entries = claim().unwrap().0;
    assert_eq!(entries.len(), 2);
    let handled = Handled {
        entry: entries[0].clone(),
        now: at(7),
        sends: vec![],
        wakes: vec![("wake \0".into(), at(700))],
        cancels: vec![],
        memory: vec![MemoryWrite { key: "k".into(), value: Some("v".into()), based_on: None }],
        limits: SendLimits {
            per_event: 9,
            per_bot: (99, Duration::from_secs(9)),
            per_bot_and_room: (99, Duration::from_secs(9)),
        },
    };
    block_on(store.commit_handled(handled)).unwrap();
    block_on(store.fail_event(&entries[1], at(7), "it \0 fails", None)).unwrap();
    assert_eq!(claim().unwrap().0.len(), 1);
}

fn schedules(store: &dyn Store) {
    let adopt = |key: &str| AdoptSchedule { key: key.into(), definition: "d".into() };
    block_on(store.adopt_schedules(at(8), vec![adopt("s"), adopt("removed")])).unwrap();
    block_on(store.adopt_schedules(at(9), vec![adopt("s")])).unwrap();
    let target =
        |widget: &str, room| Target { widget: widget.parse().unwrap(), room: RoomId(room) };
    let targets = vec![target("v", 1), target("v", u64::MAX), target("w", 5), target("w", 6)];
    let id = format!("s@{}", at(10).compact());
    let fired = NewOccurrence {
        id: id.clone(),
        nominal_at: at(10),
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets,
        events: vec![],
    };
    let missed = NewRange {
        outcome: OccurrenceOutcome::Missed,
        reason: "misfire".into(),
        from: at(8),
        to: at(9),
        count: 3,
    };
    let step = OccurrenceCommit {
        key: "s".into(),
        now: at(10),
        from: at(8),
        through: at(10),
        occurrences: vec![fired],
        ranges: vec![missed],
    };
    assert!(block_on(store.commit_occurrences(step)).unwrap());
    let first = NewDelivery {
        widget: "v".parse().unwrap(),
        occurrence: Some(id.clone()),
        schedule: Some("s".into()),
        ..message(&format!("occurrence/{id}/v/1"), 1)
    };
    let (position, served, deliveries) = (0, 1, vec![first]);
    let batch = Expansion { id, now: at(11), position, served, deliveries, skip_overlap: true };
    assert!(block_on(store.expand(batch)).unwrap());
}

/// All that can be read of a store.
fn told(store: &dyn Store) -> Vec<String> {
    let mut all = Vec::new();
    let mut lines: Vec<LedgerLine> = Vec::new();
    loop {
        let since = lines.last().map_or(0, |line| line.seq);
        let page = block_on(store.ledger(since, 1_000)).unwrap();
        if page.is_empty() {
            break;
        }
        lines.extend(page);
    }
    assert!(lines.len() > 20);
    all.extend(lines.iter().map(|line| format!("{line:?}")));
    for one in block_on(store.deliveries(&DeliveryFilter::default())).unwrap() {
        all.push(format!("{:?}", block_on(store.delivery_story(one.id)).unwrap()));
    }
    all.push(format!("{:?}", block_on(store.schedule_story("s", at(99))).unwrap()));
    all.extend(standing(store));
    all
}

/// How it stands, without how it came to that.
fn standing(store: &dyn Store) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |what: String| all.push(what);
    for one in block_on(store.deliveries(&DeliveryFilter::default())).unwrap() {
        add(format!("{one:?}"));
    }
    add(format!("{:?}", block_on(store.events(false, 99)).unwrap()));
    add(format!("{:?}", block_on(store.cursors()).unwrap()));
    add(format!("{:?}", block_on(store.pinned(99)).unwrap()));
    add(format!("{:?}", block_on(store.snapshot_index(&w(), ListKind::Rooms)).unwrap()));
    add(format!("{:?}", block_on(store.rooms_after(&w(), None, 9)).unwrap()));
    add(format!("{:?}", block_on(store.users_by_id(&w(), &[1])).unwrap()));
    add(format!("{:?}", block_on(store.remembered(&bot(), &w(), "k")).unwrap()));
    add(format!("{:?}", block_on(store.paused()).unwrap()));
    add(format!("{:?}", block_on(store.learned()).unwrap()));
    add(format!("{:?}", block_on(store.last_sign()).unwrap()));
    add(format!("{:?}", block_on(store.care()).unwrap()));
    add(format!("{:?}", block_on(store.tally()).unwrap()));
    all
}

#[track_caller]
fn alike(one: &[String], other: &[String]) {
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one, other);
    }
    assert_eq!(one.len(), other.len());
}

fn a_file_and_a_database(
    database: &Database,
) -> (tempfile::TempDir, SqliteStore, Arc<PostgresStore>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.db");
    let file = open(&path, Role::Daemon).unwrap();
    lived_in(&file);
    (folder, file, database.store(Bodies::Full))
}

/// The name of its schema, and an empty store in it.
fn a_database(database: &Database) -> (String, PostgresStore) {
    let schema = database.name();
    let store = database.connect(&schema, Bodies::Full, LEASE).temporary(&schema);
    (schema, store)
}

fn to_postgres(from: &SqliteStore, to: &PostgresStore) -> Result<Migrated> {
    block_on(migrate(MoveFrom::Sqlite(from), MoveTo::Postgres(to), at(50), |_, _| {}))
}

fn to_file(from: &PostgresStore, to: &Path) -> Result<Migrated> {
    block_on(migrate(MoveFrom::Postgres(from), MoveTo::Sqlite(to), at(60), |_, _| {}))
}

#[test]
fn a_store_that_is_moved_there_and_back_is_the_same_store() {
    let Some(database) = database() else { return };
    let (folder, file, _) = a_file_and_a_database(database);
    let (schema, there) = a_database(database);
    let before = told(&file);
    let mut seen = Vec::new();
    let progress = |table, rows| seen.push((table, rows));
    let to = MoveTo::Postgres(&there);
    let moved = block_on(migrate(MoveFrom::Sqlite(&file), to, at(50), progress)).unwrap();
    assert!(moved.source_closed);
    assert!(moved.rows.contains(&("item", 4)) && moved.rows.contains(&("wake", 1)));
    assert!(seen.contains(&("delivery", 6)), "{seen:?}");
    alike(&told(&there), &before);
    let path = folder.path().join("second.db");
    let back = to_file(&there, &path).unwrap();
    assert_eq!(back, moved);
    let second = open(&path, Role::Daemon).unwrap();
    alike(&told(&second), &before);
    // Both go on alike.
    database.run(&format!("DELETE FROM {schema}.moved_away"));
    let mut after = Vec::new();
    for store in [&there as &dyn Store, &second] {
        let begun = block_on(store.begin(at(70), "2", RULES)).unwrap();
        assert!(begun.after_crash);
        assert_eq!(
            (begun.incarnation.0, begun.turned_unknown, begun.interrupted_events),
            (3, 1, 1)
        );
        block_on(store.pause(at(71), &PauseScope::Bot(bot()), false)).unwrap();
        let claim = EventClaim { now: at(72), free: vec![(bot(), 9)], ahead: vec![] };
        let alone = block_on(store.claim_events(claim)).unwrap().0;
        assert_eq!(alone.len(), 1, "what was in flight runs alone");
        block_on(store.enqueue(at(73), vec![message("new", 8)])).unwrap();
        block_on(store.sweep(at(74), RULES, 100)).unwrap();
        items(store, ListKind::Rooms, vec![], vec![]);
        after.push(standing(store));
    }
    alike(&after[0], &after[1]);
}

#[test]
fn a_file_that_was_moved_away_is_not_run_on() {
    let Some(database) = database() else { return };
    let (folder, file, there) = a_file_and_a_database(database);
    to_postgres(&file, &there).unwrap();
    drop(file);
    let path = folder.path().join("first.db");
    let refused = open(&path, Role::Daemon).err().unwrap();
    assert_eq!(*refused.kind(), ErrorKind::Moved);
    assert!(refused.to_string().contains("was moved into another database at"), "{refused}");
    let looked_at = open(&path, Role::Visitor).unwrap();
    assert_eq!(block_on(looked_at.deliveries(&DeliveryFilter::default())).unwrap().len(), 6);
    drop(looked_at);
    // Whoever wants it back takes it into use like any old copy.
    block_on(SqliteStore::reanchor(&path, Bodies::Full, at(80))).unwrap();
    open(&path, Role::Daemon).unwrap();
}

#[test]
fn a_database_that_was_moved_away_is_not_run_on() {
    let Some(database) = database() else { return };
    let (schema, there) = a_database(database);
    let begin = || block_on(there.begin(at(0), "1", RULES));
    let run = begin().unwrap().incarnation;
    block_on(there.enqueue(at(1), vec![message("waits", 1)])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    let held = to_file(&there, &path("early.db")).unwrap_err();
    assert!(matches!(held.kind(), ErrorKind::Held { .. }), "somebody runs on it: {held}");
    block_on(there.in_use()).unwrap();
    block_on(there.end(run, at(2))).unwrap();

    assert!(to_file(&there, &path("moved.db")).unwrap().source_closed);
    let open = |role| database.open_as(role, &schema, Bodies::Full, LEASE);
    let all = [
        begin().map(drop),
        block_on(there.in_use()),
        open(Role::Daemon).map(drop),
        to_file(&there, &path("again.db")).map(drop),
    ];
    for refused in all {
        let refused = refused.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Moved);
        assert!(refused.to_string().contains("was moved into a file at"), "{refused}");
    }
    assert!(!path("again.db").exists());
    let looked_at = open(Role::Visitor).unwrap();
    assert_eq!(block_on(looked_at.deliveries(&DeliveryFilter::default())).unwrap().len(), 1);

    // Whoever lost the file says so.
    database.run(&format!("DELETE FROM {schema}.moved_away"));
    open(Role::Daemon).unwrap();
    begin().unwrap();
}

#[test]
fn a_database_of_the_step_before_is_upgraded_with_what_waits_in_it() {
    let Some(database) = database() else { return };
    let (schema, first) = a_database(database);
    block_on(first.enqueue(at(1), vec![message("waits", 1)])).unwrap();
    database.run(&format!(
        "ALTER TABLE {schema}.lease DROP COLUMN serves; UPDATE {schema}.edition SET version = 2"
    ));
    let open = |role| database.open_as(role, &schema, Bodies::Full, LEASE);
    let older = open(Role::Visitor).map(drop).unwrap_err();
    assert!(older.to_string().contains("`imbabot run` upgrades it"), "{older}");
    let second = open(Role::Daemon).unwrap();
    block_on(second.begin(at(2), "2", RULES)).unwrap();
    assert_eq!(block_on(second.deliveries(&DeliveryFilter::default())).unwrap().len(), 1);
}

#[test]
fn an_upgrade_that_waits_for_a_dump_keeps_nobody_from_saying_that_he_lives() {
    let Some(database) = database() else { return };
    let (schema, _first) = a_database(database);
    let back = "ALTER TABLE lease DROP COLUMN serves; UPDATE edition SET version = 2";
    let dump = Hand::new(&database.url, &schema);
    dump.run(back);
    dump.begin("LOCK TABLE lease IN ACCESS SHARE MODE");
    std::thread::scope(|scope| {
        let open = || database.open_as(Role::Daemon, &schema, Bodies::Full, LEASE).map(drop);
        let upgrade = scope.spawn(open);
        dump.until_waited_for();
        let other = Hand::new(&database.url, &schema);
        other.run("SET lock_timeout = '4s'; UPDATE lease SET heartbeat_at = heartbeat_at");
        dump.run("COMMIT");
        upgrade.join().unwrap().unwrap();
    });
}

#[test]
fn nothing_is_moved_where_there_is_something() {
    let Some(database) = database() else { return };
    let (folder, file, there) = a_file_and_a_database(database);
    block_on(there.adopt_bots(at(0), &[bot()])).unwrap();
    let before = block_on(there.tally()).unwrap();
    let refused = to_postgres(&file, &there).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Occupied);
    assert!(refused.to_string().contains("bot"), "{refused}");
    assert_eq!(block_on(there.tally()).unwrap(), before);
    let path = folder.path().join("first.db");
    assert_eq!(
        *to_file(&there, &path).unwrap_err().kind(),
        ErrorKind::Held { pid: Some(std::process::id()), brief: false }
    );
    let other = folder.path().join("other");
    std::fs::write(&other, "mine").unwrap();
    assert_eq!(*to_file(&there, &other).unwrap_err().kind(), ErrorKind::Occupied);
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
    // SQLite would mix what is left of another store into the new one.
    std::fs::write(folder.path().join("gone-wal"), "a log").unwrap();
    let refused = to_file(&there, &folder.path().join("gone")).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Corrupt, "{refused}");
    // Nothing is left of it, and the file is what it was.
    block_on(file.begin(at(90), "1", RULES)).unwrap();
}

#[test]
fn nothing_is_moved_while_an_instance_runs() {
    let Some(database) = database() else { return };
    let (folder, file, there) = a_file_and_a_database(database);
    let visitor = open(&folder.path().join("first.db"), Role::Visitor).unwrap();
    assert_eq!(*to_postgres(&visitor, &there).unwrap_err().kind(), ErrorKind::Unusable);
    drop(file);
    let run = block_on(there.begin(at(0), "1", RULES)).unwrap().incarnation;
    let path = folder.path().join("second.db");
    let refused = to_file(&there, &path).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Held { pid: None, brief: false });
    assert!(refused.to_string().contains("\"test\" runs on the store"), "{refused}");
    assert!(!path.exists());
    block_on(there.end(run, at(1))).unwrap();
    to_file(&there, &path).unwrap();
}

#[test]
fn a_copy_that_differs_is_noticed_and_not_kept() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = open(&folder.path().join("first.db"), Role::Daemon).unwrap();
    lived_in(&file);
    let schema = database.name();
    let there = database.connect(&schema, Bodies::Full, Duration::from_secs(10)).temporary(&schema);
    let lies = [
        ("memory", "new.value := '\"other\"'; RETURN new"),
        ("item", "IF new.id = 1 THEN RETURN NULL; END IF; RETURN new"),
        ("delivery", "new.room := 12; RETURN new"),
    ];
    for (table, lie) in lies {
        database.run(&format!(
            "SET search_path TO {schema};
             CREATE OR REPLACE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN {lie}; END $$;
             CREATE TRIGGER lie BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION lie();"
        ));
        let refused = to_postgres(&file, &there).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert!(refused.to_string().contains(&format!("has of {table}")), "{refused}");
        database.run(&format!("DROP TRIGGER lie ON {schema}.{table}"));
    }
    // As if nothing had happened.
    to_postgres(&file, &there).unwrap();
    alike(&told(&there), &told(&file));
}

#[test]
fn a_store_that_contradicts_itself_is_not_moved() {
    let Some(database) = database() else { return };
    let (folder, file, there) = a_file_and_a_database(database);
    let hand = rusqlite::Connection::open(folder.path().join("first.db")).unwrap();
    hand.execute("UPDATE delivery SET state = 'delivered', open = 0 WHERE key = 'later'", [])
        .unwrap();
    let refused = to_postgres(&file, &there).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Corrupt);
    assert!(refused.to_string().contains("the store contradicts itself"), "{refused}");
    let empty = block_on(there.ledger(0, 9)).unwrap();
    assert!(empty.is_empty(), "{empty:?}");
}

#[test]
fn numbers_go_on_where_they_had_come_to() {
    let Some(database) = database() else { return };
    let (folder, file, _) = a_file_and_a_database(database);
    let (schema, there) = a_database(database);
    // The newest of each is gone, its number is not free.
    let hand = rusqlite::Connection::open(folder.path().join("first.db")).unwrap();
    hand.execute_batch(
        "UPDATE sqlite_sequence SET seq = 1000 WHERE name IN ('event', 'delivery', 'ledger')",
    )
    .unwrap();
    assert_eq!(to_postgres(&file, &there).unwrap().seq, 1_000);
    let path = folder.path().join("second.db");
    to_file(&there, &path).unwrap();
    let second = open(&path, Role::Daemon).unwrap();
    database.run(&format!("DELETE FROM {schema}.moved_away"));
    for store in [&there as &dyn Store, &second] {
        block_on(store.begin(at(70), "2", RULES)).unwrap();
        let lines = block_on(store.ledger(999, 9)).unwrap();
        assert!(lines[0].seq > 1_000, "{lines:?}");
    }
}
