//! Several instances of the real program on one PostgreSQL: killed, stopped in the middle, cut off from
//! the database, under clocks that disagree. Every occurrence happens once, nothing is said twice, and
//! what one instance leaves another takes over within the lease and a second.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "other processes take real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use imbabot_core::Timestamp;
use imbabot_simulator::Options;
use imbabot_store::{DeliveryState, LedgerLine, Line, OccurrenceOutcome};
use support::postgres::{self, Database, Server, Way};
use support::wall::Wall;
use support::{
    Chat, Daemon, Home, PATIENCE, Rng, Signal, assert_holds, now_micros, present, wait_for,
    wait_until,
};

/// As short as it may be.
const LEASE: Duration = Duration::from_secs(2);

/// What each instance is told, beside its own address.
fn configuration(url: &str, more: &str) -> String {
    format!(
        "[store]\nkind = \"postgres\"\nurl_file = \"database_url\"\nlease = \"{}s\"\n\
         [delivery]\nrate = \"1000/s\"\nrate_per_room = \"1000/s\"\nsettle = \"1s\"\n\
         timeout = \"10s\"\nbackoff = {{ min = \"10ms\", max = \"100ms\" }}\n\
         [limits]\nper_bot = \"1000000/h\"\n# {}\n{more}",
        LEASE.as_secs(),
        url.len()
    )
}

/// A home for each of several instances.
struct Fleet {
    homes: Vec<Home>,
    url: String,
}

impl Fleet {
    fn of(instances: usize, chat: &Chat, url: &str, more: &str) -> Self {
        let home = |_| {
            let home = Home::at(chat, &configuration(url, more));
            home.write("database_url", url, 0o600);
            home
        };
        Self { homes: (0..instances).map(home).collect(), url: url.to_owned() }
    }

    /// Any of them: what is asked of the store is the same.
    fn one(&self) -> &Home {
        &self.homes[0]
    }

    fn start(&self) -> Vec<Daemon> {
        let daemons: Vec<Daemon> = self.homes.iter().map(Home::start).collect();
        daemons.iter().for_each(Daemon::wait_ready);
        daemons
    }

    /// Ends all schedules, and waits until nothing is on its way any more; the last second whose
    /// instants may have been fired.
    fn wind_up(&self) -> i64 {
        let pause = "UPDATE imbabot.schedule SET paused = TRUE";
        postgres::run(&self.url, pause);
        let last = now_micros() / 1_000_000 - 1;
        // By the verb too, which the instances hear of at once.
        self.one().imbabot(&["schedules", "pause", "s0"]).expect(0);
        let open =
            "SELECT (SELECT count(*) FROM imbabot.delivery WHERE state IN ('queued', 'sending'))
                         + (SELECT count(*) FROM imbabot.occurrence WHERE targets IS NOT NULL)";
        // However much is left, as long as it becomes less.
        let (mut quiet, mut least, mut since) = (0, i64::MAX, Instant::now());
        while quiet <= 5 {
            let left = postgres::number(&self.url, open);
            quiet = if left > 0 { 0 } else { quiet + 1 };
            if left < least {
                (least, since) = (left, Instant::now());
            }
            assert!(left == 0 || since.elapsed() < PATIENCE, "{left} are left, and {least} were");
            std::thread::sleep(Duration::from_millis(200));
        }
        last
    }

    /// So many schedules fired each second between these two once, or say why not, and nothing is doubled.
    #[track_caller]
    fn accounts_for(&self, schedules: usize, chat: &Chat, first: i64, last: i64) {
        let mut check = self.one().check(chat);
        for n in 0..schedules {
            check = check.expected(&format!("s{n}"), instants(first, last, 1));
        }
        assert_holds(&check.quiescent());
    }

    /// The instance that has the schedules and says so.
    fn who_fires(&self, daemons: &[Option<Daemon>]) -> Option<usize> {
        let fires = |d: &Daemon| self.owned(d).iter().any(|unit| unit == "schedules");
        daemons.iter().position(|daemon| daemon.as_ref().is_some_and(fires))
    }

    fn owned(&self, daemon: &Daemon) -> Vec<String> {
        let Some(page) = daemon.http().get("/api/status") else { return Vec::new() };
        let units = page.json()["fleet"]["units"].clone();
        match units {
            serde_json::Value::Object(units) => units.keys().cloned().collect(),
            serde_json::Value::Array(units) => {
                units.iter().filter_map(|u| Some(u["name"].as_str()?.to_owned())).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn schedules(count: usize, every: &str, rooms: &[i64], policy: &str) -> String {
    let mut text = String::new();
    for n in 0..count {
        let room = rooms[n % rooms.len()];
        text.push_str(&format!(
            "[[schedule]]\nid = \"s{n}\"\nevery = \"{every}\"\nrooms = {{ ids = [{room}] }}\n\
             text = \"{{{{ occurrence.id }}}}\"\npolicy = \"{policy}\"\n"
        ));
    }
    text
}

/// How late each occurrence that fired was recorded, the latest last.
fn lateness(ledger: &[LedgerLine]) -> Vec<Duration> {
    let mut late: Vec<Duration> = ledger
        .iter()
        .filter_map(|line| match &line.line {
            Line::Occurrence(o) if o.outcome == OccurrenceOutcome::Fired => {
                Some(o.recorded_at.since(o.nominal_at))
            }
            _ => None,
        })
        .collect();
    late.sort_unstable();
    late
}

/// Every instant of every schedule between two seconds, as a rule of so many seconds has them.
fn instants(first: i64, last: i64, every: i64) -> impl Iterator<Item = Timestamp> {
    (first..=last).filter(move |second| second % every == 0).map(Timestamp::from_seconds)
}

/// Kills instances at random and around the instants at which schedules fire.
/// How long it took until another one had taken over, where that was measured.
fn storm(kills: u32, count: usize, rooms: usize, every: i64) -> Vec<Duration> {
    let Some(database) = Database::new() else { return Vec::new() };
    let mut rng = Rng::new();
    let chat = Chat::with(Options { latency_micros: 3_000, ..Options::default() });
    let rooms: Vec<i64> = (1..=rooms).map(|n| chat.open_room(&format!("Team {n}"))).collect();
    let half = count / 2;
    let mut more = schedules(half, &format!("{every}s"), &rooms, "at_most_once");
    more.push_str(
        &schedules(count - half, &format!("{every}s"), &rooms, "at_least_once")
            .replace("id = \"s", "id = \"r"),
    );
    let fleet = Fleet::of(3, &chat, &database.url, &more);
    let mut daemons: Vec<Option<Daemon>> = fleet.start().into_iter().map(Some).collect();
    let first = now_micros() / 1_000_000 + 1;
    wait_until("the first instant", || now_micros() / 1_000_000 > first);

    let begun = Instant::now();
    let mut taken_over = Vec::new();
    for n in 0..kills {
        // Every fourth time all is well before, and what follows is measured.
        let measured = n % 4 == 0;
        if measured {
            daemons.iter().flatten().for_each(Daemon::wait_ready);
            wait_until("all is shared out", || {
                let all = "SELECT count(owner) + 10 * count(DISTINCT owner) FROM imbabot.unit";
                postgres::number(&fleet.url, all) == 22
            });
        }
        // Every other one dies around an instant, and it is the one that fires.
        let victim = if n % 2 == 0 {
            let next = (now_micros() / 1_000_000 / every + 1) * every * 1_000_000;
            let at = next - 50_000 + i64::try_from(rng.within(0, 100_000)).unwrap();
            std::thread::sleep(Duration::from_micros((at - now_micros()).max(0).unsigned_abs()));
            fleet.who_fires(&daemons)
        } else {
            std::thread::sleep(rng.millis(0, 700));
            None
        };
        let fires = victim.is_some();
        // Of the database: a page of five hundred schedules, asked for again and again, is a load.
        let owner = || {
            let owner = "SELECT coalesce(owner, 0) FROM imbabot.unit WHERE name = 'schedules'";
            postgres::number(&fleet.url, owner)
        };
        let before = owner();
        let victim = victim.unwrap_or_else(|| rng.pick(&[0, 1, 2]));
        if let Some(daemon) = daemons[victim].take() {
            daemon.kill();
        }
        let killed = Instant::now();
        if measured && fires {
            wait_until("another one fires", || ![0, before].contains(&owner()));
            taken_over.push(killed.elapsed());
        }
        daemons[victim] = Some(fleet.homes[victim].start());
    }
    taken_over.sort_unstable();
    println!(
        "{kills} kills of 3 instances in {:?}; of {} it was measured when another one had taken over: \
         half of them within {:?}, all within {:?}",
        begun.elapsed(),
        taken_over.len(),
        taken_over.get(taken_over.len() / 2),
        taken_over.last(),
    );
    std::thread::sleep(LEASE + Duration::from_secs(2));

    let last = fleet.wind_up();
    for daemon in daemons.into_iter().flatten() {
        daemon.stop();
    }
    let ledger = fleet.one().ledger();
    let mut check = fleet.one().check(&chat);
    for n in 0..half {
        check = check.expected(&format!("s{n}"), instants(first, last, every));
    }
    for n in 0..count - half {
        check = check.expected(&format!("r{n}"), instants(first, last, every));
    }
    assert_holds(&check.quiescent());
    let deliveries = present(&ledger);
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in &deliveries {
        let reason = delivery.reason.as_deref().unwrap_or_default();
        *states.entry(format!("{} {reason}", delivery.state)).or_default() += 1;
    }
    // What was said of each last: one that fired may turn out to have been left out in every room.
    let mut last_said = BTreeMap::new();
    for line in &ledger {
        if let Line::Occurrence(o) = &line.line {
            last_said.insert(&o.id, format!("{} {}", o.outcome, o.reason.as_deref().unwrap_or("")));
        }
    }
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for said in last_said.values() {
        *outcomes.entry(said).or_default() += 1;
    }
    let late = lateness(&ledger);
    println!(
        "occurrences {outcomes:?}, {} deliveries {states:?}, {} requests; an occurrence was recorded \
         at most {:?} late, p99 {:?}",
        deliveries.len(),
        chat.asked("send_msg").len(),
        late.last(),
        late.get(late.len() * 99 / 100),
    );
    fleet.one().imbabot(&["ledger", "verify"]).expect(0);
    taken_over
}

#[test]
fn m1_three_instances_fire_every_occurrence_once() {
    storm(0, 100, 50, 1);
}

#[test]
fn m2_kill_nine_of_any_of_three_instances_loses_and_doubles_nothing() {
    storm(12, 60, 20, 1);
}

#[test]
#[ignore = "takes minutes"]
fn m2_kill_nine_two_hundred_times_loses_and_doubles_nothing() {
    let taken_over = storm(200, 500, 200, 5);
    // On a machine that has nothing else to do.
    assert!(taken_over.iter().all(|t| *t <= LEASE + Duration::from_secs(1)), "{taken_over:?}");
}

#[test]
fn what_one_leaves_another_takes_over_within_the_lease_and_a_second() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team");
    let more = schedules(1, "1s", &[room], "at_most_once");
    let fleet = Fleet::of(2, &chat, &database.url, &more);
    let mut daemons = fleet.start();
    let mut times = Vec::new();
    for _ in 0..3 {
        let owns = |d: &Daemon| fleet.owned(d).iter().any(|u| u == "schedules");
        let owner = wait_for("somebody owns the schedules", || daemons.iter().position(owns));
        let before = chat.texts(room).len();
        wait_until("it fires", || chat.texts(room).len() > before);
        daemons.remove(owner).kill();
        let killed = Instant::now();
        wait_until("the other has the schedules", || daemons.iter().any(owns));
        times.push(killed.elapsed());
        let home = usize::from(owner != 0);
        // The one that is left is at 0 now; the killed one's home is started again.
        let left = daemons.remove(0);
        let again = fleet.homes[owner].start();
        again.wait_ready();
        daemons = if home == 0 { vec![again, left] } else { vec![left, again] };
    }
    println!("taken over after {times:?} with a lease of {LEASE:?}");
    assert!(times.iter().all(|time| *time <= LEASE + Duration::from_secs(1)), "{times:?}");
}

#[test]
fn m3_an_instance_that_was_stopped_in_the_middle_of_a_send_says_nothing_twice() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team");
    let fleet = Fleet::of(2, &chat, &database.url, "");
    let daemons = fleet.start();
    // Applied, and answered while the sender is stopped.
    chat.fault("send_msg:late=1s");
    fleet.one().imbabot(&["send", "--room", &room.to_string(), "--key", "k", "once"]).expect(0);
    let sending = || fleet.one().deliveries().iter().any(|d| d.state == DeliveryState::Sending);
    wait_until("it is on its way", || sending() && !chat.asked("send_msg").is_empty());
    let owner =
        daemons.iter().find(|d| fleet.owned(d).iter().any(|u| u.starts_with("widget/"))).unwrap();
    owner.signal(Signal::STOP);
    wait_until("it is unknown", || {
        fleet.one().deliveries().iter().all(|d| d.state == DeliveryState::Unknown)
    });
    owner.signal(Signal::CONT);
    // Its own late answer is the truth about its attempt.
    wait_until("the answer is heard", || {
        fleet.one().deliveries().iter().all(|d| d.state == DeliveryState::Delivered)
    });
    wait_until("it has begun anew", || {
        owner.http().is_ready() && owner.said().contains("IMB-S-FENCED")
    });
    assert_eq!(chat.texts(room), ["once"]);
    assert_eq!(chat.asked("send_msg").len(), 1);
    assert_holds(&fleet.one().check(&chat).quiescent());
    daemons.into_iter().for_each(Daemon::stop);
}

#[test]
fn m3_stopping_instances_at_random_beyond_their_lease_doubles_nothing() {
    let Some(database) = Database::new() else { return };
    let mut rng = Rng::new();
    let chat = Chat::with(Options { latency_micros: 20_000, ..Options::default() });
    let rooms: Vec<i64> = (1..=10).map(|n| chat.open_room(&format!("Team {n}"))).collect();
    let more = schedules(30, "1s", &rooms, "at_most_once");
    let fleet = Fleet::of(2, &chat, &database.url, &more);
    let daemons = fleet.start();
    let first = now_micros() / 1_000_000 + 1;
    for _ in 0..5 {
        std::thread::sleep(rng.millis(0, 1_000));
        let stopped = &daemons[usize::try_from(rng.within(0, 1)).unwrap()];
        stopped.signal(Signal::STOP);
        std::thread::sleep(LEASE + rng.millis(300, 1_500));
        stopped.signal(Signal::CONT);
        wait_until("both are ready", || daemons.iter().all(|d| d.http().is_ready()));
    }
    let last = fleet.wind_up();
    daemons.into_iter().for_each(Daemon::stop);
    fleet.accounts_for(30, &chat, first, last);
}

#[test]
fn m5_a_database_that_is_killed_and_started_again_costs_nothing() {
    let Some(server) = Server::start() else { return };
    let chat = Chat::with(Options { latency_micros: 3_000, ..Options::default() });
    let rooms: Vec<i64> = (1..=10).map(|n| chat.open_room(&format!("Team {n}"))).collect();
    let more = schedules(20, "1s", &rooms, "at_most_once");
    let fleet = Fleet::of(2, &chat, &server.url(), &more);
    let daemons = fleet.start();
    let first = now_micros() / 1_000_000 + 1;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1_200));
        server.killed();
        std::thread::sleep(Duration::from_millis(700));
        server.up();
        postgres::answers(&server.url());
        let said = chat.asked("send_msg").len();
        let begun = Instant::now();
        wait_until("they go on", || chat.asked("send_msg").len() > said + 20);
        println!("messages again {:?} after the database answered", begun.elapsed());
    }
    let last = fleet.wind_up();
    daemons.into_iter().for_each(Daemon::stop);
    fleet.accounts_for(20, &chat, first, last);
    fleet.one().imbabot(&["ledger", "verify"]).expect(0);
}

/// One instance cannot reach the database for so long, and what it had on its way to it arrives late. How
/// long it took until the other had taken over.
fn cut_off(length: Duration) -> Duration {
    let Some(database) = Database::new() else { return Duration::ZERO };
    let chat = Chat::with(Options { latency_micros: 3_000, ..Options::default() });
    let rooms: Vec<i64> = (1..=10).map(|n| chat.open_room(&format!("Team {n}"))).collect();
    let fleet = Fleet::of(2, &chat, &database.url, &schedules(20, "1s", &rooms, "at_most_once"));
    let way = Way::to(&database.url);
    fleet.homes[1].write("database_url", &way.url, 0o600);
    let daemons = fleet.start();
    let [near, far] = &daemons[..] else { unreachable!() };
    let owned = |daemon: &Daemon| fleet.owned(daemon).len();
    wait_until("each has its share", || owned(near) == 1 && owned(far) == 1);
    let first = now_micros() / 1_000_000 + 1;
    wait_until("they fire", || now_micros() / 1_000_000 > first + 1);

    way.open(false);
    let begun = Instant::now();
    wait_until("the other has everything", || owned(near) == 2);
    let taken_over = begun.elapsed();
    wait_until("it knows that it has nothing", || owned(far) == 0 && !far.http().is_ready());
    far.wait_says("IMB-S-UNHEARD");
    std::thread::sleep(length.saturating_sub(begun.elapsed()));
    way.open(true);
    let mended = Instant::now();
    wait_until("each has its share again", || owned(near) == 1 && owned(far) == 1);
    println!(
        "away for {length:?}: taken over after {taken_over:?}, shared again {:?} after it was mended",
        mended.elapsed()
    );
    far.wait_says("IMB-S-FENCED");

    let last = fleet.wind_up();
    daemons.into_iter().for_each(Daemon::stop);
    fleet.accounts_for(20, &chat, first, last);
    fleet.one().imbabot(&["ledger", "verify"]).expect(0);
    taken_over
}

#[test]
fn m5_an_instance_that_cannot_reach_the_database_is_replaced_and_comes_back() {
    cut_off(Duration::from_secs(8));
}

#[test]
#[ignore = "takes more than a minute"]
fn m5_an_instance_that_cannot_reach_the_database_for_a_minute_comes_back() {
    let taken_over = cut_off(Duration::from_secs(60));
    // On a machine that has nothing else to do.
    assert!(taken_over <= LEASE + Duration::from_secs(1), "{taken_over:?}");
}

#[test]
fn a_newer_program_may_add_to_the_tables_beside_an_older_one_that_runs() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team");
    let fleet = Fleet::of(3, &chat, &database.url, &schedules(1, "1s", &[room], "at_most_once"));
    let daemons: Vec<Daemon> = fleet.homes[..2].iter().map(Home::ready).collect();
    let first = now_micros() / 1_000_000 + 1;
    // As a newer one leaves it that has taken a step with which this one can go on.
    postgres::run(&database.url, "UPDATE imbabot.edition SET version = version + 1");
    let said = chat.texts(room).len();
    wait_until("they go on", || chat.texts(room).len() > said + 3);
    // None is started on it any more.
    let refused = fleet.homes[2].imbabot(&["run", "--once", "--json"]).expect(78).error();
    assert_eq!(refused["code"], "IMB-S-NEWER", "{refused}");

    postgres::run(&database.url, "UPDATE imbabot.edition SET compatible_from = version");
    for daemon in daemons {
        daemon.wait_says("IMB-S-NEWER");
        assert_eq!(daemon.end(), Some(78));
    }
    postgres::run(
        &database.url,
        "UPDATE imbabot.edition SET version = version - 1, compatible_from = 1",
    );
    let daemon = fleet.homes[2].ready();
    let said = chat.texts(room).len();
    wait_until("it goes on", || chat.texts(room).len() > said + 1);
    let last = fleet.wind_up();
    daemon.stop();
    fleet.accounts_for(1, &chat, first, last);
}

#[test]
fn m7_clocks_that_are_ten_minutes_apart_make_no_difference() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team");
    let more = schedules(1, "1s", &[room], "at_most_once");
    let fleet = Fleet::of(2, &chat, &database.url, &more);
    let mut walls: Vec<Wall> = fleet.homes.iter().map(Wall::new).collect();
    walls[0].forward(Duration::from_secs(600));
    walls[1].back(Duration::from_secs(600));
    let first = now_micros() / 1_000_000 + 1;
    let mut daemons: Vec<Daemon> =
        fleet.homes.iter().zip(&walls).map(|(home, wall)| wall.start(home)).collect();
    let first = first.max(now_micros() / 1_000_000 + 1);
    std::thread::sleep(Duration::from_secs(3));
    // Whoever fires, the other goes on by the same clock.
    let owner =
        daemons.iter().position(|d| fleet.owned(d).iter().any(|u| u == "schedules")).unwrap();
    daemons.remove(owner).kill();
    std::thread::sleep(LEASE + Duration::from_secs(3));
    let last = fleet.wind_up();
    daemons.into_iter().for_each(Daemon::stop);
    let ledger = fleet.one().ledger();
    fleet.accounts_for(1, &chat, first, last);
    let late = lateness(&ledger);
    assert!(late[late.len() - 1] < PATIENCE, "{late:?}");
    assert!(late[late.len() / 2] < Duration::from_secs(1), "{late:?}");
}

#[test]
fn m10_a_server_that_may_forget_is_refused() {
    let Some(server) = Server::start() else { return };
    postgres::run(&server.url(), "ALTER SYSTEM SET synchronous_commit = off");
    postgres::run(&server.url(), "SELECT pg_reload_conf()");
    let chat = Chat::open();
    let fleet = Fleet::of(1, &chat, &server.url(), "");
    let ended = fleet.one().imbabot(&["run", "--once"]).expect(78);
    assert!(ended.stderr.contains("synchronous_commit"), "{}", ended.stderr);
}

#[test]
fn m11_what_came_due_while_nobody_ran_is_accounted_for() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team");
    let more = schedules(1, "1s", &[room], "at_most_once");
    let fleet = Fleet::of(2, &chat, &database.url, &more);
    let daemons = fleet.start();
    let first = now_micros() / 1_000_000 + 1;
    wait_until("it fires", || chat.texts(room).len() > 1);
    daemons.into_iter().for_each(Daemon::kill);
    std::thread::sleep(LEASE);
    let daemons = fleet.start();
    let said = chat.texts(room).len();
    wait_until("it fires again", || chat.texts(room).len() > said + 1);
    let last = fleet.wind_up();
    daemons.into_iter().for_each(Daemon::stop);
    fleet.accounts_for(1, &chat, first, last);
}

#[test]
fn an_instance_that_is_drained_gives_everything_away() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team").to_string();
    let fleet = Fleet::of(2, &chat, &database.url, "");
    let daemons = fleet.start();
    // It need not be ready to tell.
    let look = || fleet.one().imbabot(&["status", "--json"]).json();
    let status = look();
    let instances = status["instances"].as_array().unwrap().clone();
    assert_eq!(instances.len(), 2, "{status}");
    let first = instances[0]["incarnation"].as_i64();
    let number = first.unwrap().to_string();
    fleet.one().imbabot(&["drain", &number]).expect(0);
    wait_until("it owns nothing", || {
        let status = look();
        let instances = status["instances"].as_array().unwrap();
        let drained = instances.iter().find(|i| i["incarnation"].as_i64() == first).unwrap();
        let rest: usize = instances
            .iter()
            .filter(|i| i["incarnation"].as_i64() != first)
            .map(|i| i["units"].as_array().unwrap().len())
            .sum();
        drained["units"].as_array().unwrap().is_empty() && rest == 2
    });
    fleet.one().imbabot(&["send", "--room", &room, "--wait", "10s", "hello"]).expect(0);
    fleet.one().imbabot(&["drain", "--undo", &number]).expect(0);
    daemons.into_iter().for_each(Daemon::stop);
}
