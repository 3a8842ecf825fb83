//! Years of schedules in many zones, with kills at random: every instant that an independent calendar
//! knows fired once or lies in one run whose reason is true. What is older than a month is compacted
//! meanwhile, as in production.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]
#![allow(dead_code, reason = "the calendar's oracle is shared")]

#[path = "../../bot/tests/calendar_oracle/civil.rs"]
mod civil;
#[path = "../../bot/tests/calendar_oracle/expression.rs"]
mod expression;
#[path = "../../bot/tests/calendar_oracle/oracle.rs"]
mod oracle;
#[path = "../src/random.rs"]
mod random;
#[path = "../../bot/tests/calendar_oracle/timeline.rs"]
mod timeline;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::BotName;
use imbabot_bot::prelude::*;
use imbabot_bot::schedule::Dst;
use imbabot_bot::units::{days, hours, minutes, seconds};
use imbabot_core::Timestamp;
use imbabot_scheduler::{Announcement, BotSettings, Clock, Rate};
use imbabot_store::{
    Bodies, Line, OccurrenceOutcome, OccurrenceRecord, RangeRecord, SqliteStore, Store,
};
use imbabot_testing::World;
use imbabot_testing::simulation::{CrashPoint, Kill, MortalStore};
use oracle::Oracle;
use random::Random;
use timeline::Timeline;

/// Those in which most happens, and those in which most people live.
const ZONES: [&str; 25] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/Los_Angeles",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
];

/// A daily time that clock changes skip and repeat, each hour, and weekdays at nine.
const RULES: [(&str, &str); 3] =
    [("daily", "30 2 * * *"), ("hourly", "0 * * * *"), ("weekdays", "0 9 * * 1-5")];

const DAY: i64 = 86_400;
/// Says to a process of ours which five zones it takes.
const GROUP: &str = "IMBABOT_TEST_YEARS_GROUP";

/// Has an hourly schedule of its own in one zone, and nobody to tell.
struct Hourly(Schedule);

#[async_trait]
impl Bot for Hourly {
    fn schedules(&self) -> Vec<Schedule> {
        vec![self.0.clone()]
    }

    async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> {
        Ok(())
    }
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    instants: u64,
    fired: u64,
    misfired: u64,
    expired: u64,
    kills: u64,
    messages: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.instants += other.instants;
        self.fired += other.fired;
        self.misfired += other.misfired;
        self.expired += other.expired;
        self.kills += other.kills;
        self.messages += other.messages;
    }
}

/// One schedule, and what the oracle owes of it.
struct Owed {
    expected: VecDeque<Timestamp>,
    /// What the ledger says of instants that were not looked at yet.
    told: BTreeMap<Timestamp, Told>,
}

#[derive(Clone)]
enum Told {
    Fired(Timestamp),
    LeftOut(String),
}

struct Years {
    world: World,
    store: Arc<dyn Store>,
    kill: Kill,
    random: Random,
    owed: HashMap<String, Owed>,
    /// When nobody was there: from a kill to the next start that was not killed.
    down: Vec<(Timestamp, Timestamp)>,
    down_since: Option<Timestamp>,
    last_line: i64,
    applied: BTreeSet<String>,
    count: Count,
}

impl Years {
    fn begin(zones: &[&str], from: i64, until: i64, seed: u64) -> Self {
        let start = Timestamp::from_seconds(from);
        let kill = Kill::default();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
        let mortal = Arc::new(MortalStore::over(Arc::clone(&store), kill.clone()));
        let mut world = World::over(start, mortal);
        world.is_mortal(&kill);
        let room = world.simulator.open_room("Hall");
        let room = RoomId(room.unsigned_abs());
        let settings = world.settings();
        settings.delivery.rate = Rate::new(1_000, seconds(1));
        settings.delivery.rate_per_room = Rate::new(1_000, seconds(1));
        settings.poll.rooms = hours(12);
        let mut owed = HashMap::new();
        for (n, zone) in zones.iter().enumerate() {
            // Daily offset changes of a zone are at least this far apart.
            let timeline = Timeline::of(zone, from - 3 * DAY, until + 3 * DAY, 6 * DAY);
            for (name, cron) in RULES {
                let id = format!("{name}-{}", zone.replace('/', "-").to_lowercase());
                let schedule = Schedule::cron(&id, cron).unwrap().timezone(zone).unwrap();
                let key = if name == "hourly" {
                    let bot: BotName = format!("bot{n}").parse().unwrap();
                    let key = imbabot_scheduler::bot_schedule_key(&bot, &schedule);
                    let mut bot = BotSettings::new(bot, Arc::new(Hourly(schedule)));
                    bot.widgets = Some(Vec::new());
                    settings.bots.push(bot);
                    key
                } else {
                    let text = Template::announcement("{{ occurrence.id }}").unwrap();
                    let rooms = RoomSelector::ids([room]);
                    settings.announcements.push(Arc::new(Announcement::new(schedule, rooms, text)));
                    id
                };
                let except = BTreeSet::new();
                let oracle = Oracle { timeline: &timeline, dst: Dst::default(), except: &except };
                let found = oracle.cron(&expression::Expression::read(cron), from, until);
                let expected = found.into_iter().map(|f| Timestamp::from_seconds(f.at)).collect();
                owed.insert(key, Owed { expected, told: BTreeMap::new() });
            }
        }
        world.start();
        Self {
            world,
            store,
            kill,
            random: Random(seed),
            owed,
            down: Vec::new(),
            down_since: None,
            last_line: 0,
            applied: BTreeSet::new(),
            count: Count::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Time passes until it has passed, or the daemon is killed.
    fn pass(&mut self, by: Duration) {
        self.world.step();
        let clock = self.world.clock.clone();
        let target = clock.elapsed() + by;
        while !self.kill.has_struck() {
            let left = target.saturating_sub(clock.elapsed());
            let next = clock.until_next().filter(|next| *next <= left);
            clock.advance(next.unwrap_or(left));
            self.world.step();
            if next.is_none() {
                break;
            }
        }
        if self.kill.bury().is_some() {
            self.falls();
        }
    }

    fn falls(&mut self) {
        self.world.crash();
        self.count.kills += 1;
        self.down_since.get_or_insert(self.now());
    }

    /// It is killed, in one way or another, and somebody starts it again.
    fn kill(&mut self) {
        match self.random.below(3) {
            0 => self.falls(),
            n => {
                let verb =
                    self.random.pick(&["commit_occurrences", "expand", "claim", "settle", "sweep"]);
                let side = if n == 1 { "before" } else { "after" };
                let nth = 1 + self.random.below(3);
                let point: CrashPoint = format!("{side} {verb} {nth}").parse().unwrap();
                self.kill.arm(point);
                self.pass(hours(30));
                self.kill.disarm();
                if self.down_since.is_none() {
                    self.falls();
                }
            }
        }
        loop {
            let away = match self.random.below(10) {
                0..=5 => self.random.millis(10, 120_000),
                6..=8 => self.random.millis(60_000, 3 * 3_600_000),
                _ => self.random.millis(3_600_000, 3 * 86_400_000),
            };
            self.world.clock.advance(away);
            if self.random.below(8) == 0 {
                self.kill.arm("after adopt_schedules 1".parse().unwrap());
            }
            self.world.start();
            let up = self.now();
            if self.kill.bury().is_some() {
                self.falls();
                continue;
            }
            self.kill.disarm();
            let down = self.down_since.take().unwrap();
            self.down.push((down, up));
            return;
        }
    }

    /// What the ledger says since it was read last, held against the oracle up to a moment that is
    /// past for every schedule.
    fn account(&mut self, until: Timestamp) {
        let lines = block_on(self.store.ledger(self.last_line, usize::MAX >> 1)).unwrap();
        let mut deliveries = BTreeMap::new();
        for line in lines {
            self.last_line = line.seq;
            match line.line {
                Line::Occurrence(record) => self.one(&record),
                // What is older than the retention is compacted: it was told when it came.
                Line::Range(run) if run.to + days(25) > self.now() => self.run(&run),
                Line::Delivery(record) => {
                    deliveries.insert(record.id, record);
                }
                _ => {}
            }
        }
        for entry in self.world.simulator.log().iter().filter(|entry| entry.applied) {
            self.count.messages += 1;
            let text = entry.text.clone().unwrap();
            assert!(self.applied.insert(text.clone()), "{text} was said twice");
        }
        self.world.simulator.clear_log();
        for (key, owed) in &mut self.owed {
            while let Some(at) = owed.expected.front().copied().filter(|at| *at <= until) {
                owed.expected.pop_front();
                let told = owed.told.remove(&at);
                let Some(told) = told else {
                    panic!("{key}@{} is not accounted for", at.compact())
                };
                self.count.instants += 1;
                is_true(key, at, &told, &self.down, &mut self.count);
            }
            let early = owed.told.range(..=until).next();
            assert!(early.is_none(), "{key}@{:?} is no instant", early.map(|(at, _)| at));
        }
        let month = days(40);
        self.down.retain(|(_, up)| *up + month > until);
    }

    fn one(&mut self, record: &OccurrenceRecord) {
        let told = match record.outcome {
            OccurrenceOutcome::Fired => Told::Fired(record.recorded_at),
            _ => Told::LeftOut(record.reason.clone().unwrap()),
        };
        let owed = self.owed.get_mut(&record.schedule).unwrap();
        if owed.expected.front().is_some_and(|first| record.nominal_at < *first) {
            panic!("{} is accounted for again", record.id);
        }
        let before = owed.told.insert(record.nominal_at, told);
        assert!(before.is_none(), "{} is accounted for twice", record.id);
    }

    fn run(&mut self, run: &RangeRecord) {
        let owed = self.owed.get_mut(&run.schedule).unwrap();
        let from = owed.expected.partition_point(|at| *at < run.from);
        let inside: Vec<Timestamp> =
            owed.expected.iter().skip(from).copied().take_while(|at| *at <= run.to).collect();
        assert_eq!(inside.len() as u64, run.count, "{run:?}");
        assert_eq!((inside.first(), inside.last()), (Some(&run.from), Some(&run.to)), "{run:?}");
        for at in inside {
            let before = owed.told.insert(at, Told::LeftOut(run.reason.clone()));
            assert!(before.is_none(), "{}@{at} is accounted for twice", run.schedule);
        }
    }
}

/// Whether what was told of an instant is true: it came on time, or nobody was there, and then the rule
/// for what is late was kept.
fn is_true(
    key: &str,
    at: Timestamp,
    told: &Told,
    down: &[(Timestamp, Timestamp)],
    count: &mut Count,
) {
    let away = down.iter().find(|(from, up)| *from <= at && at <= *up);
    let up = away.map_or(at, |(_, up)| *up);
    let late = up.since(at);
    let place = || format!("{key}@{}, nobody there: {away:?}", at.compact());
    match told {
        Told::Fired(when) => {
            count.fired += 1;
            // On time, also where it was killed at that very moment; or as soon as it was back.
            let on_time = *when >= at && when.since(at) <= minutes(1);
            let back = *when == up && late < hours(1);
            assert!(on_time || back, "{} fired at {when}", place());
        }
        Told::LeftOut(reason) => {
            assert!(late > minutes(1), "{} was left out for {reason}, and was on time", place());
            match reason.as_str() {
                "expired" => {
                    count.expired += 1;
                    assert!(late >= hours(1), "{} had not expired", place());
                }
                "misfire" => {
                    count.misfired += 1;
                    // One of all that is late fires; an hourly one has a later one within the hour.
                    assert!(late < hours(1), "{} had expired", place());
                }
                // Said by the next occurrence of the same schedule.
                other => panic!("{}: {other}", place()),
            }
        }
    }
}

fn years(zones: &[&str], from: &str, length: i64, seed: u64) -> Count {
    let from = from.parse::<Timestamp>().unwrap().as_seconds();
    let until = from + length * DAY;
    let mut years = Years::begin(zones, from, until, seed);
    let end = Timestamp::from_seconds(until);
    let mut accounted = years.now();
    while years.now() < end - days(5) {
        let length = years.random.millis(3_600_000, 6 * 86_400_000);
        years.pass(length);
        years.kill();
        if years.now().since(accounted) > days(9) {
            let now = years.now();
            years.account(now - seconds(1));
            if let Some(engine) = years.world.engine() {
                // What was told up to here is compacted when it is a month old.
                block_on(engine.prune());
            }
            accounted = now;
        }
    }
    let left = end.since(years.now());
    years.pass(left);
    years.account(end);
    years.count
}

#[test]
fn nine_months_in_six_zones_with_kills_are_accounted_for() {
    let zones: Vec<&str> = ZONES.iter().copied().step_by(5).chain(["Europe/Berlin"]).collect();
    let count = years(&zones, "2026-02-01T00:00:30Z", 270, 7);
    println!("{count:?}");
    assert!(count.instants > 40_000 && count.kills > 50, "{count:?}");
    assert!(count.expired > 50 && count.messages > 1_000, "{count:?}");
}

#[test]
#[ignore = "minutes, and only in release; just years"]
fn ten_years_in_twenty_five_zones_with_kills_are_accounted_for() {
    if let Ok(group) = std::env::var(GROUP) {
        let group: usize = group.parse().unwrap();
        let zones = &ZONES[group * 5..group * 5 + 5];
        let count = years(zones, "2026-01-01T00:00:30Z", 3_653, 100 + group as u64);
        println!("{zones:?}: {count:?}");
        assert!(count.instants > 460_000, "{count:?}");
        return;
    }
    // A process each: in one, SQLite counts the memory of all its databases under one lock, and two
    // threads mostly wait for each other.
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let group = next.fetch_add(1, Ordering::Relaxed);
                    if group * 5 >= ZONES.len() {
                        return;
                    }
                    let name = "ten_years_in_twenty_five_zones_with_kills_are_accounted_for";
                    let ended = Command::new(std::env::current_exe().unwrap())
                        .args(["--ignored", "--exact", name, "--nocapture"])
                        .env(GROUP, group.to_string())
                        .status()
                        .unwrap();
                    assert!(ended.success(), "group {group}");
                }
            });
        }
    });
}
