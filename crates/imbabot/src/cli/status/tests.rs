//! What `status` says, word for word.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use imbabot_store::{Holder, IncarnationId, InstanceRecord};
use insta::assert_snapshot;

use super::*;
use crate::status::instances::Instance;

const BEGUN: &str = "2026-03-30T06:00:00Z";
const SIGNED: &str = "2026-03-30T07:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn quiet() -> Value {
    json!({
        "ready": true, "reasons": [], "obstacles": [], "started_at": BEGUN, "version": "1.2.3",
        "widgets": {"main": {
            "rooms": 12, "last_good_poll": "2026-03-30T06:59:57Z",
            "last_poll": "2026-03-30T06:59:57Z", "last_outcome": "ok", "problem": null,
            "breaker": null, "in_flight": 0,
        }},
        "tasks": {
            "poller": {"last_progress": "2026-03-30T06:59:57Z", "last": "polled main", "restarts": 0},
            "timer": {"last_progress": "2026-03-30T06:59:30Z", "last": "nothing due", "restarts": 1},
        },
        "next": [{"schedule": "standup", "at": "2026-03-30T09:30:00+02:00", "at_utc": "2026-03-30T07:30:00Z"}],
        "paused": [], "set_aside": {},
        "housekeeping": {
            "prune": {"running": false, "last": "2026-03-30T06:50:17Z", "took_seconds": 0.02,
                "records": 40, "problems": 0, "found": [], "next": "2026-03-30T07:00:17Z"},
            "verify": {"running": false, "last": null, "took_seconds": null,
                "records": 0, "problems": 0, "found": [], "next": "2026-03-31T03:41:37Z"},
        },
    })
}

fn signed(status: &Value, stopped: bool) -> SignOfLife {
    SignOfLife { at: at(SIGNED), stopped, status: status.to_string() }
}

fn holder() -> Holder {
    Holder { pid: 4711, brief: false, since: Some(at("2026-03-30T05:59:59Z")) }
}

fn report(holder: Option<Holder>, sign: Option<SignOfLife>, now: &str) -> Report {
    Report::of(&Daemons::OfFile(holder), sign, at(now))
        .unwrap_or_else(|failure| panic!("{}", failure.message))
}

/// As a person sees it; no line is wider than a terminal.
fn told(report: &Report) -> String {
    let told = tell::report(report);
    assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
    told
}

#[test]
fn a_daemon_that_keeps_its_promises_is_ready() {
    let report = report(Some(holder()), Some(signed(&quiet(), false)), "2026-03-30T07:00:04Z");
    assert!(report.is_healthy());
    assert_snapshot!(told(&report));
}

#[test]
fn what_is_wrong_comes_first_with_what_to_do() {
    let mut status = quiet();
    status["ready"] = false.into();
    status["reasons"] = json!(["api_unreachable", "task_stalled", "paused"]);
    status["obstacles"] = json!([
        {"reason": "api_unreachable", "subject": "main", "since": "2026-03-30T06:48:00Z"},
        {"reason": "task_stalled", "subject": "bot/greeter", "since": "2026-03-30T06:50:00Z"},
        {"reason": "paused", "subject": "widget/main", "since": "2026-03-30T06:55:00Z"},
    ]);
    status["widgets"]["main"]["problem"] =
        "chat.example: the port \u{1b}[31mis closed; ".repeat(6).into();
    status["widgets"]["main"]["breaker"] = json!(["outage", "2026-03-30T06:48:00Z"]);
    status["set_aside"] = json!({"greeter": "2026-03-30T06:50:00Z"});
    status["paused"] = json!(["widget/main"]);
    status["housekeeping"]["prune"]["problems"] = 1.into();
    status["housekeeping"]["prune"]["found"] = json!(["the store failed: disk I/O error"]);
    let report = report(Some(holder()), Some(signed(&status, false)), "2026-03-30T07:00:04Z");
    assert!(!report.is_healthy());
    assert_snapshot!(told(&report));
}

#[test]
fn every_reason_has_words_of_its_own() {
    let mut status = quiet();
    let all = imbabot_scheduler::NotReady::ALL.map(imbabot_scheduler::NotReady::as_str);
    let obstacles = all.map(|reason| json!({"reason": reason, "subject": "main", "since": SIGNED}));
    status["ready"] = false.into();
    status["reasons"] = json!(all);
    status["obstacles"] = json!(obstacles);
    for part in ["widgets", "tasks", "housekeeping"] {
        status[part] = json!({});
    }
    let report = report(Some(holder()), Some(signed(&status, false)), "2026-03-30T07:00:04Z");
    assert_snapshot!(told(&report));
}

#[test]
fn a_daemon_that_says_nothing_any_more_hangs() {
    let sign = signed(&quiet(), false);
    let in_time = report(Some(holder()), Some(sign.clone()), "2026-03-30T07:00:30Z");
    assert!(in_time.is_healthy());
    let report = report(Some(holder()), Some(sign), "2026-03-30T07:00:31Z");
    assert!(!report.is_healthy(), "whatever it said last");
    let value = report.value();
    assert_eq!((&value["ready"], &value["silent"]), (&json!(false), &json!(true)));
    assert_snapshot!(told(&report).split("\n\n").next().unwrap());
}

#[test]
fn what_an_earlier_run_said_is_no_news_of_one_that_starts() {
    let later = Holder { since: Some(at("2026-03-30T07:00:01Z")), ..holder() };
    for sign in [None, Some(signed(&quiet(), false)), Some(signed(&quiet(), true))] {
        let report = report(Some(later), sign, "2026-03-30T07:00:40Z");
        assert_eq!(report.life, Life::Starting(Who::Process(4711), later.since));
        assert!(!report.is_healthy());
        assert!(!told(&report).contains("main"), "{}", told(&report));
    }
    assert_snapshot!(told(&report(Some(later), None, "2026-03-30T07:00:40Z")));
}

#[test]
fn a_daemon_that_stopped_and_one_that_was_killed_are_told_apart() {
    let now = "2026-03-30T10:00:00Z";
    let stopped = report(None, Some(signed(&quiet(), true)), now);
    let killed = report(None, Some(signed(&quiet(), false)), now);
    for report in [&stopped, &killed] {
        assert!(!report.is_healthy());
        assert_eq!(
            (&report.value()["ready"], &report.value()["running"]),
            (&json!(false), &json!(false))
        );
    }
    let first = |report: &Report| told(report).split("\n\n").next().unwrap().to_owned();
    assert_snapshot!(format!("{}\n\n{}", first(&stopped), first(&killed)));
}

#[test]
fn a_status_of_another_version_is_read_as_far_as_it_is_known() {
    let strange = json!({
        "ready": false, "reasons": ["moon"], "more": {"a": 1},
        "obstacles": [{"reason": "moon", "subject": "\u{1b}[2J", "since": SIGNED}],
        "widgets": {"main": {"colour": "red"}},
    });
    let report = report(Some(holder()), Some(signed(&strange, false)), "2026-03-30T07:00:04Z");
    let told = told(&report);
    assert!(told.starts_with("not ready since 2026-03-30T07:00:00Z (4s): moon"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
    assert_eq!(report.value()["more"], json!({"a": 1}));
}

#[test]
fn what_is_known_of_a_server_stands_beneath_its_widget() {
    let mut status = quiet();
    let list = |rows: u64| json!({"rows": rows, "bytes": 3_000, "milliseconds": 12, "quirks": ["map", "bad_rows"]});
    status["widgets"]["main"]["capabilities"] = json!({
        "polls": {"rooms": list(12), "users": null, "server_ahead_seconds": -3_600,
            "activity": "no_activity_signal", "of_a_later_version": {}},
        "doctor": {"users": {"rows": 7, "bytes": 900, "milliseconds": 3}, "activity": "unknown"},
    });
    let told = told(&report(Some(holder()), Some(signed(&status, false)), "2026-03-30T07:00:04Z"));
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = "Its server: 12 rooms in 3000 bytes and 12 ms (map, bad_rows); 7 users in 900 bytes and 3 ms; \
                its clock is 3600 s behind ours; no_activity_signal: `updated_at` does not move with messages";
    assert!(told.contains(line), "{told}");
    // What another version wrote in its place is passed over.
    status["widgets"]["main"]["capabilities"] = json!({"polls": {"rooms": 7, "activity": []}});
    let report = report(Some(holder()), Some(signed(&status, false)), "2026-03-30T07:00:04Z");
    assert!(tell::report(&report).contains("0 rooms in 0 bytes"));
}

fn instance(number: i64, name: &str, lease_until: &str, units: &[&str]) -> InstanceRecord {
    InstanceRecord {
        incarnation: IncarnationId(number),
        name: name.into(),
        version: "1.2.3".into(),
        started_at: at(BEGUN),
        heartbeat_at: at(SIGNED),
        lease_until: at(lease_until),
        draining: number == 8,
        units: units.iter().map(|unit| ((*unit).to_owned(), 3)).collect(),
    }
}

/// As `status` looks at a server at this instant.
fn of_server(instances: Vec<InstanceRecord>, sign: Option<SignOfLife>, now: &str) -> Report {
    let daemons = Daemons::OfServer(instances.clone(), at(now));
    let mut report = Report::of(&daemons, sign, at(now)).unwrap();
    let told = instances.into_iter().map(|one| Instance::of(one, at(now)));
    report.add(Work { instances: told.collect(), ..Work::default() }).unwrap();
    report
}

#[test]
fn of_several_instances_each_is_told_with_what_it_has() {
    let now = "2026-03-30T07:00:04Z";
    let all = vec![
        instance(7, "blue", "2026-03-30T07:00:10Z", &["schedules", "widget/a", "widget/b"]),
        instance(8, "green\u{1b}[2J", "2026-03-30T07:00:10Z", &["widget/c"]),
        instance(9, "red", "2026-03-30T07:00:01Z", &[]),
    ];
    let mut status = quiet();
    status["fleet"] = json!({"incarnation": 8, "alive": 2});
    let report = of_server(all, Some(signed(&status, false)), now);
    assert!(report.is_healthy());
    assert_eq!(report.life, Life::Running(Who::Instances(2)), "a lease has run out");
    let value = report.value();
    assert_eq!((&value["running"], &value["pid"]), (&json!(true), &json!(null)));
    let told_of = |n: usize| {
        let one = &value["instances"][n];
        json!([one["incarnation"], one["alive"], one["draining"], one["schedules"], one["widgets"]])
    };
    assert_eq!(told_of(0), json!([7, true, false, true, 2]));
    assert_eq!(told_of(1), json!([8, true, true, false, 1]));
    assert_eq!(told_of(2), json!([9, false, false, false, 0]));
    assert_eq!(value["instances"][0]["units"][1], json!({"name": "widget/a", "term": 3}));
    let told = told(&report);
    assert_snapshot!(told.split("\n\n").take(2).collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn instances_whose_leases_have_run_out_do_not_run() {
    let all = vec![instance(7, "blue", "2026-03-30T07:00:10Z", &["schedules"])];
    let report = of_server(all, Some(signed(&quiet(), false)), "2026-03-30T07:00:10Z");
    assert_eq!(report.life, Life::Gone);
    assert!(!report.is_healthy() && told(&report).contains("lost"), "{}", told(&report));
}

#[test]
fn what_an_instance_said_before_those_that_run_began_is_no_news() {
    let later = InstanceRecord {
        started_at: at("2026-03-30T07:00:01Z"),
        ..instance(7, "blue", "2026-03-30T07:00:14Z", &[])
    };
    let now = "2026-03-30T07:00:04Z";
    let report = of_server(vec![later], Some(signed(&quiet(), false)), now);
    assert!(matches!(report.life, Life::Starting(Who::Instances(1), _)), "{:?}", report.life);
    assert!(told(&report).starts_with("starting: one instance runs since"), "{}", told(&report));
}
