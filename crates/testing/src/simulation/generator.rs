//! The history of a seed. Looks at nothing but the seed: what an operation comes to is found out when
//! it is run. Not every history has everything: clocks are set in some, the wall moves by years in few.

use std::time::Duration;

use imbabot_bot::units::{days, hours, minutes, seconds};

use super::cast;
use super::crash::{Crash, CrashPoint, Place, WRITES};
use super::operations::{Change, History, Operation, Scope};
use crate::random::Random;

/// What can go wrong with a message, from harmless to malicious.
const SEND_FAULTS: [&str; 30] = [
    "refuse",
    "refuse:times=4",
    "blackhole",
    "close-unread",
    "close",
    "close=rst:times=4",
    "apply-then-close",
    "apply-then-close=rst:times=3",
    "silent",
    "apply-then-silent",
    "status=500",
    "status=502:times=5",
    "status=503:retry-after=7:applied",
    "status=504:applied",
    "status=408:applied",
    "status=429:retry-after=30",
    "status=302:location=https\\://elsewhere/:applied",
    "status=301:location=https\\://elsewhere/",
    "status=422",
    "status=401",
    "body=@html:applied",
    "body=@empty:applied",
    "code=500:applied",
    "code=404",
    "not-http=nonsense",
    "late=30s",
    "late=5s:times=3",
    "slow=2B/s",
    "truncate=40",
    "repeat-uuid",
];

const POLL_FAULTS: [&str; 18] = [
    "refuse:times=3",
    "blackhole",
    "status=502:times=4",
    "status=401",
    "status=301:location=https\\://elsewhere/",
    "list=empty",
    "list=half",
    "list=map",
    "list=paged",
    "list=doubled",
    "list=bad-row",
    "truncate=120",
    "body=@html",
    "other-widget=9",
    "late=10s",
    "slow=40B/s",
    "close",
    "silent",
];

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
];

/// Rules whose shortest period is this long.
const RULES: [(&str, u64); 8] = [
    ("cron=30_2_*_*_*", 1_200),
    ("cron=0_9_*_*_1-5", 1_200),
    ("cron=0_*_*_*_*", 1_200),
    ("cron=*/20_*_*_*_*", 600),
    ("every=15m", 600),
    ("every=1h", 1_200),
    ("every=7m", 300),
    ("cron=15,45_1,2,3_*_*_*", 600),
];

const KEYS: [&str; 4] = ["s1", "s2", "s3", "s4"];

/// The history of a seed.
#[must_use]
pub fn generate(seed: u64) -> History {
    let mut random = Random::of(seed);
    let mut maker = Maker {
        sets_clocks: random.one_in(3),
        by_years: random.one_in(12),
        is_stormy: random.one_in(2),
        random,
        operations: Vec::new(),
    };
    maker.beginning();
    let length = 25 + maker.random.below(45);
    for _ in 0..length {
        maker.step();
    }
    History { seed, operations: maker.operations }
}

struct Maker {
    random: Random,
    sets_clocks: bool,
    by_years: bool,
    is_stormy: bool,
    operations: Vec<Operation>,
}

impl Maker {
    fn add(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    fn beginning(&mut self) {
        for _ in 0..self.random.below(4) {
            self.open();
        }
        for name in cast::ALL {
            if self.random.one_in(2) {
                self.add(Operation::Bot(name.into(), true));
            }
        }
        for _ in 0..self.random.below(4) {
            self.schedule();
        }
        self.add(Operation::Start);
    }

    fn open(&mut self) {
        let name = self.random.pick(&["team", "hall", "help"]);
        self.add(Operation::Open(name.into()));
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=9 => self.people(),
            10..=15 => self.add(Operation::Poll),
            16..=24 => self.pass(seconds(1), seconds(100)),
            25..=35 => self.pass(minutes(1), hours(3)),
            36 => self.pass(hours(2), hours(14)),
            37 => self.add(Operation::Down(false)),
            38..=46 => self.send(),
            47..=56 => self.fault(),
            57..=72 => self.crash(),
            73..=75 => self.outage(),
            76..=80 => self.configure(),
            81..=82 => self.add(Operation::Restart),
            83..=84 => self.downtime(),
            85..=86 => {
                let length = self.random.length(seconds(10), hours(9));
                self.add(Operation::Suspend(length));
            }
            87..=90 if self.sets_clocks => self.wall(),
            87..=94 => self.operator(),
            _ => self.burst(),
        }
    }

    /// Several things in one go, so that a kill finds a lot on its way.
    fn burst(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            self.send();
        }
        self.crash();
        self.pass(seconds(1), minutes(5));
    }

    fn people(&mut self) {
        if self.random.one_in(4) {
            self.open();
        } else if self.random.one_in(9) {
            let user = 1 + self.random.below(5);
            self.add(Operation::Join(user));
        } else {
            let change = self.random.pick(&[
                Change::Rename,
                Change::Delete,
                Change::Vanish,
                Change::Restore,
                Change::Restore,
                Change::Touch,
                Change::Post,
                Change::Post,
                Change::Kind,
                Change::Publish,
            ]);
            let room = self.random.below(12);
            self.add(Operation::Room(change, room));
        }
        if self.random.one_in(2) {
            self.add(Operation::Poll);
        }
    }

    fn pass(&mut self, least: Duration, most: Duration) {
        let length = self.random.length(least, most);
        self.add(Operation::Pass(length));
    }

    fn send(&mut self) {
        let later = self.random.pick(&[0, 0, 0, 5, 60, 1_800]);
        let operation = Operation::Send {
            key: self.random.below(30),
            room: self.random.below(6),
            insistent: self.random.one_in(3),
            later: seconds(later),
        };
        self.add(operation);
    }

    fn fault(&mut self) {
        let spec = if self.random.one_in(4) {
            let list = self.random.pick(&["get_rooms", "get_rooms", "get_users"]);
            format!("{list}:{}", self.random.pick(&POLL_FAULTS))
        } else {
            format!("send_msg:{}", self.random.pick(&SEND_FAULTS))
        };
        self.add(Operation::Fault(spec));
    }

    fn crash(&mut self) {
        let nth = self.random.pick(&[1, 1, 1, 2, 3, 7]);
        let at = match self.random.below(3) {
            0 => Crash::Before(self.verb()),
            1 => Crash::After(self.verb()),
            _ => {
                let endpoint =
                    self.random.pick(&["send_msg", "send_msg", "get_rooms", "get_users"]);
                let place = match self.random.below(5) {
                    0 => Place::Unsent,
                    1 => Place::Half,
                    2 => Place::Unanswered,
                    3 => Place::Byte(usize::try_from(self.random.below(700)).unwrap_or_default()),
                    _ => Place::Unrecorded,
                };
                Crash::Request(endpoint.into(), place)
            }
        };
        self.add(Operation::Crash(CrashPoint { at, nth }));
        if self.random.one_in(2) {
            self.pass(seconds(1), minutes(30));
        }
    }

    fn verb(&mut self) -> String {
        // Those at the heart of it more often.
        const OFTEN: [&str; 6] =
            ["claim", "settle", "commit_occurrences", "expand", "commit_handled", "commit_poll"];
        let verb = if self.random.one_in(2) {
            self.random.pick(&OFTEN)
        } else {
            self.random.pick(&WRITES)
        };
        verb.into()
    }

    fn outage(&mut self) {
        let (begin, end) = match self.random.below(4) {
            0 => (Operation::Secret(false), Operation::Secret(true)),
            1 => (Operation::Banned(true), Operation::Banned(false)),
            _ => (Operation::Down(true), Operation::Down(false)),
        };
        self.add(begin);
        self.send();
        self.pass(seconds(5), minutes(40));
        if !self.random.one_in(4) {
            self.add(end);
        }
    }

    fn configure(&mut self) {
        match self.random.below(5) {
            0 => {
                let name = self.random.pick(&cast::ALL);
                let on = !self.random.one_in(3);
                self.add(Operation::Bot(name.into(), on));
            }
            1 => {
                let id = self.random.pick(&KEYS);
                self.add(Operation::Unschedule(id.into()));
            }
            _ => self.schedule(),
        }
        if !self.random.one_in(3) {
            self.add(Operation::Reload);
        }
    }

    fn schedule(&mut self) {
        let random = &mut self.random;
        let (rule, period) = random.pick(&RULES);
        let mut words = vec![random.pick(&KEYS).to_owned(), rule.to_owned()];
        words.push(format!("zone={}", random.pick(&ZONES)));
        words.push(format!("rooms={}", random.pick(&["all", "team", "1536,1537"])));
        let options: [(u64, &[&str]); 9] = [
            (2, &["misfire=skip", "misfire=once", "misfire=catch-up"]),
            (3, &["catch-up-max=1", "catch-up-max=3"]),
            (3, &["grace=5s", "grace=10m"]),
            (3, &["keeps=4m", "keeps=3h"]),
            (4, &["overlap=allow"]),
            (4, &["gap=skip", "repeat=second", "repeat=both"]),
            (4, &["except=2026-03-29", "except=2026-03-02,2026-10-25"]),
            (3, &["say=room"]),
            (3, &["policy=at_least_once"]),
        ];
        for (one_in, values) in options {
            if random.one_in(one_in) {
                words.push(random.pick(values).to_owned());
            }
        }
        if random.one_in(4) {
            words.push(format!("jitter={}s", 1 + random.below(period / 2)));
        }
        let text = words.join(" ");
        if let Ok(plan) = text.parse() {
            self.add(Operation::Schedule(Box::new(plan)));
        }
    }

    fn downtime(&mut self) {
        self.add(Operation::Kill);
        if self.random.one_in(3) {
            self.people();
        }
        let most = if self.by_years { days(200) } else { days(2) };
        self.pass(seconds(1), most);
        self.add(Operation::Start);
    }

    fn wall(&mut self) {
        let most = match self.random.below(3) {
            0 => minutes(2),
            1 => hours(20),
            _ if self.by_years && self.random.one_in(3) => days(365 * 3),
            _ => days(12),
        };
        let (on, length) = (self.random.one_in(2), self.random.length(seconds(1), most));
        self.add(Operation::Wall(on, length));
        self.pass(seconds(1), hours(1));
        if self.random.one_in(2) {
            // Somebody notices.
            self.add(Operation::Wall(!on, length));
        }
    }

    fn operator(&mut self) {
        let random = &mut self.random;
        let n = random.below(4);
        let scope = match random.below(6) {
            0 => Scope::All,
            1 => Scope::Widget,
            2 | 3 => Scope::Bot(random.pick(&cast::ALL).into()),
            _ => Scope::Schedule(random.pick(&KEYS).into()),
        };
        let operation = match random.below(9) {
            0 => Operation::Pause(true, scope),
            1 => Operation::Pause(false, scope),
            2 => {
                self.add(Operation::Pause(true, scope.clone()));
                self.send();
                self.pass(seconds(5), hours(1));
                Operation::Pause(false, scope)
            }
            3 => Operation::Trigger(random.pick(&KEYS).into()),
            4 => Operation::Cancel(scope),
            5 => Operation::Retry(n),
            6 | 7 => Operation::Resolve(n),
            _ => Operation::RetryEvent(n),
        };
        self.add(operation);
        if self.is_stormy && self.random.one_in(3) {
            self.crash();
        }
    }
}
