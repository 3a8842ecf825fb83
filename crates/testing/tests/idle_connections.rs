//! 20,000 messages to servers that close their connections at the worst moment: at once after an
//! answer, just when the next message comes, by FIN or by RST, announced or not. Nothing may arrive
//! twice, and at most one message in a thousand may end in doubt.
//!
//! A daemon here is the client as the daemon has it: eight messages at a time, and what was not
//! sent is sent again. It stops at nothing else: no breaker, no rate.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]
#![allow(clippy::disallowed_methods, reason = "sockets take real time")]

mod sockets;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use imbabot_core::{Api, Class, RoomId, SendMsg};
use sockets::{Answer, Close, Request, Server, Then, api, confirmation, http, settings};
use tokio::runtime::{Builder, Runtime};

/// Messages at a time, as `[delivery] concurrency` has it by default.
const CONCURRENCY: usize = 8;

/// How a server treats the connections it has answered on.
#[derive(Clone, Copy)]
struct Habit {
    headers: &'static str,
    then: Then,
}

const fn habit(then: Then) -> Habit {
    Habit { headers: "", then }
}

const fn announced(headers: &'static str, then: Then) -> Habit {
    Habit { headers, then }
}

const fn after(millis: u64, close: Close) -> Then {
    Then::StayFor(Duration::from_millis(millis), close)
}

const HONEST: Habit = habit(Then::Stay);
const FIN_AT_ONCE: Habit = habit(Then::Close(Close::Fin));
const RST_AT_ONCE: Habit = habit(Then::Close(Close::Rst));
const FIN_WHEN_ASKED: Habit = habit(Then::StayUntilAsked(Close::Fin));
const RST_WHEN_ASKED: Habit = habit(Then::StayUntilAsked(Close::Rst));
const FIN_AFTER_5_MS: Habit = habit(after(5, Close::Fin));
const RST_AFTER_5_MS: Habit = habit(after(5, Close::Rst));
const FIN_AFTER_50_MS: Habit = habit(after(50, Close::Fin));
const RST_AFTER_50_MS: Habit = habit(after(50, Close::Rst));
const FIN_AFTER_1_S: Habit = habit(after(1_000, Close::Fin));
const RST_AFTER_1_S: Habit = habit(after(1_000, Close::Rst));
const CLOSES_AS_IT_SAYS: Habit = announced("Connection: close\r\n", Then::Close(Close::Fin));
const ONE_SECOND_AS_IT_SAYS: Habit =
    announced("Keep-Alive: timeout=1\r\n", after(1_000, Close::Fin));
const TWO_SECONDS_AS_IT_SAYS: Habit = announced(
    "Connection: keep-alive\r\nKeep-Alive: timeout=2, max=100\r\n",
    after(2_000, Close::Fin),
);

/// A server and those who send to it.
struct Trial {
    name: &'static str,
    /// Taken in turns, by connection.
    habits: &'static [Habit],
    daemons: usize,
    /// Of each daemon, eight messages each.
    waves: usize,
    /// The pauses between two waves, taken in turns; each a little more or less.
    pauses: &'static [Duration],
}

/// What became of the messages of a trial.
struct Figures {
    sends: usize,
    doubled: usize,
    ambiguous: usize,
    /// Of the daemon that had most.
    most: usize,
    connections: usize,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const NO_PAUSE: &[Duration] = &[Duration::ZERO];
const MS_2: Duration = ms(2);
const MS_5: Duration = ms(5);
const MS_50: Duration = ms(50);
const S_1: Duration = ms(1_000);
const S_2: Duration = ms(2_000);

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

impl Trial {
    fn run(&self) -> Figures {
        let begun = Instant::now();
        let (there, here) = (runtime(1), runtime(2));
        let habits = self.habits;
        let answer = move |request: &Request| {
            let Habit { headers, then } = habits[request.connection % habits.len()];
            Answer { bytes: http("200 OK", headers, confirmation(request).as_bytes()), then }
        };
        let server = there.block_on(there.spawn(Server::start(answer))).unwrap();
        let ends = here.block_on(async {
            let daemons: Vec<_> = (0..self.daemons)
                .map(|n| {
                    let api = api(settings(server.address));
                    tokio::spawn(daemon(api, n, self.waves, self.pauses))
                })
                .collect();
            let mut ends = Vec::new();
            for daemon in daemons {
                ends.push(daemon.await.unwrap());
            }
            ends
        });
        // A request that was abandoned may still be on its way to the server's log.
        there.block_on(async { tokio::time::sleep(ms(20)).await });
        let figures = self.figures(&server, &ends);
        println!(
            "{}: {} sends, {} doubled, {} ambiguous ({:.3} %), {} connections, {:.1} s",
            self.name,
            figures.sends,
            figures.doubled,
            figures.ambiguous,
            100.0 * figures.ambiguous as f64 / figures.sends as f64,
            figures.connections,
            begun.elapsed().as_secs_f64(),
        );
        there.shutdown_background();
        figures
    }

    /// Holds what the daemons believe against what the server heard.
    fn figures(&self, server: &Server, ends: &[Vec<(String, Class)>]) -> Figures {
        let heard = server.heard();
        let mut arrived: HashMap<&str, usize> = HashMap::new();
        for request in &heard.requests {
            *arrived.entry(request.header("x-imbabot-delivery").unwrap()).or_default() += 1;
        }
        for (id, class) in ends.iter().flatten() {
            let times = arrived.get(id.as_str()).copied().unwrap_or(0);
            let possible = match class {
                Class::Delivered => times == 1,
                Class::Ambiguous => times <= 1,
                Class::NotSent | Class::Rejected => false,
            };
            assert!(possible, "{}: {id} is {class} and arrived {times} times", self.name);
        }
        let doubts = |daemon: &Vec<(String, Class)>| {
            daemon.iter().filter(|(_, class)| *class == Class::Ambiguous).count()
        };
        Figures {
            sends: ends.iter().map(Vec::len).sum(),
            doubled: arrived.values().filter(|times| **times > 1).count(),
            ambiguous: ends.iter().map(doubts).sum(),
            most: ends.iter().map(doubts).max().unwrap(),
            connections: heard.bytes.len(),
        }
    }
}

/// Sends its waves, and tells what it believes of each message.
async fn daemon(
    api: Api,
    number: usize,
    waves: usize,
    pauses: &[Duration],
) -> Vec<(String, Class)> {
    let mut ends = Vec::with_capacity(waves * CONCURRENCY);
    let mut seed = number as u64;
    for wave in 0..waves {
        let sends: Vec<_> = (0..CONCURRENCY)
            .map(|lane| tokio::spawn(deliver(api.clone(), format!("{number}-{wave}-{lane}"))))
            .collect();
        for send in sends {
            ends.push(send.await.unwrap());
        }
        let pause = pauses[wave % pauses.len()];
        if !pause.is_zero() {
            // The worst moment, a millisecond more or less.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            let jitter = Duration::from_micros((seed >> 33) % 2_000);
            tokio::time::sleep((pause + jitter).saturating_sub(ms(1))).await;
        }
    }
    ends
}

/// As the deliverer does: only what was not sent is sent again.
async fn deliver(api: Api, id: String) -> (String, Class) {
    let mut attempt = 1;
    loop {
        let request =
            SendMsg::new(1.into(), RoomId(1536), "hello").with_delivery(id.clone(), attempt);
        let outcome = api.send_msg(&request).await;
        if outcome.class != Class::NotSent {
            return (id, outcome.class);
        }
        attempt += 1;
        assert!(attempt < 20, "{outcome:?}");
    }
}

#[test]
fn twenty_thousand_messages_past_every_bad_habit_are_never_doubled_and_rarely_in_doubt() {
    // Mostly without a pause, now and then with one that hits.
    const PAUSES: &[Duration] = &{
        let mut pauses = [Duration::ZERO; 100];
        let mut n = 0;
        while n < 100 {
            if n % 10 == 5 {
                pauses[n] = ms(5);
            } else if n % 50 == 1 {
                pauses[n] = ms(50);
            }
            n += 1;
        }
        pauses
    };
    let figures = Trial {
        name: "all habits in turns",
        habits: &[
            FIN_AFTER_50_MS,
            FIN_AT_ONCE,
            RST_AFTER_5_MS,
            FIN_WHEN_ASKED,
            RST_AT_ONCE,
            FIN_AFTER_5_MS,
            RST_WHEN_ASKED,
            CLOSES_AS_IT_SAYS,
            ONE_SECOND_AS_IT_SAYS,
            HONEST,
        ],
        daemons: 1,
        waves: 2_500,
        pauses: PAUSES,
    }
    .run();
    assert_eq!((figures.sends, figures.doubled), (20_000, 0));
    assert!(figures.ambiguous <= 20, "{} in doubt", figures.ambiguous);
}

#[test]
fn a_habit_nobody_could_know_of_costs_no_more_than_what_is_in_flight_once() {
    let quick = |name, habits, pauses| Trial { name, habits, daemons: 1, waves: 50, pauses };
    for trial in [
        quick("FIN at once", &[FIN_AT_ONCE], NO_PAUSE),
        quick("FIN at once, with pauses", &[FIN_AT_ONCE], &[MS_2]),
        quick("RST at once", &[RST_AT_ONCE], NO_PAUSE),
        quick("FIN when asked again", &[FIN_WHEN_ASKED], NO_PAUSE),
        quick("RST when asked again", &[RST_WHEN_ASKED], &[MS_2]),
        quick("FIN after 5 ms", &[FIN_AFTER_5_MS], &[MS_5]),
        quick("RST after 5 ms", &[RST_AFTER_5_MS], &[MS_5]),
    ] {
        let figures = trial.run();
        assert_eq!(figures.doubled, 0, "{}", trial.name);
        assert!(figures.most <= CONCURRENCY, "{}: {} in doubt", trial.name, figures.most);
    }
}

#[test]
fn a_connection_that_breaks_under_a_message_costs_that_one_message() {
    // The first messages go one by one, and the second is the first on a used connection.
    let trial = Trial {
        name: "FIN when asked again, one daemon after the other",
        habits: &[FIN_WHEN_ASKED],
        daemons: 20,
        waves: 5,
        pauses: NO_PAUSE,
    };
    let figures = trial.run();
    assert_eq!(figures.doubled, 0);
    assert!(figures.most <= 2, "{} in doubt", figures.most);
}

#[test]
fn what_a_server_announces_or_what_takes_it_a_second_costs_nothing() {
    let trial =
        |name, habits, daemons, waves, pauses| Trial { name, habits, daemons, waves, pauses };
    let trials = [
        trial("Connection: close", &[CLOSES_AS_IT_SAYS], 1, 100, NO_PAUSE),
        trial("FIN after 1 s", &[FIN_AFTER_1_S], 30, 3, &[S_1]),
        trial("RST after 1 s", &[RST_AFTER_1_S], 30, 3, &[S_1]),
        trial("Keep-Alive: timeout=1", &[ONE_SECOND_AS_IT_SAYS], 30, 3, &[S_1]),
        trial("Keep-Alive: timeout=2", &[TWO_SECONDS_AS_IT_SAYS], 30, 3, &[S_2]),
    ];
    std::thread::scope(|scope| {
        for trial in &trials {
            scope.spawn(move || {
                let figures = trial.run();
                assert_eq!((figures.doubled, figures.ambiguous), (0, 0), "{}", trial.name);
            });
        }
    });
}

#[test]
fn an_honest_server_keeps_its_connections_busy() {
    let trial = Trial {
        name: "an honest server",
        habits: &[HONEST],
        daemons: 1,
        waves: 150,
        pauses: &[Duration::ZERO, Duration::ZERO, MS_5],
    };
    let figures = trial.run();
    assert_eq!((figures.doubled, figures.ambiguous), (0, 0));
    assert!(figures.connections <= 50, "{} connections", figures.connections);
}

/// Each habit alone, 20,000 messages each: some minutes.
#[test]
#[ignore = "takes minutes; the figures are those of DESIGN.md"]
fn twenty_thousand_messages_past_each_bad_habit() {
    let trial = |name, habits, daemons, pauses| {
        let waves = 20_000 / CONCURRENCY / daemons;
        Trial { name, habits, daemons, waves, pauses }
    };
    for trial in [
        trial("FIN at once", &[FIN_AT_ONCE], 1, NO_PAUSE),
        trial("FIN at once, with pauses", &[FIN_AT_ONCE], 1, &[MS_2]),
        trial("RST at once", &[RST_AT_ONCE], 1, NO_PAUSE),
        trial("FIN when asked again", &[FIN_WHEN_ASKED], 1, NO_PAUSE),
        trial("RST when asked again", &[RST_WHEN_ASKED], 1, NO_PAUSE),
        trial("FIN after 5 ms", &[FIN_AFTER_5_MS], 1, &[MS_5]),
        trial("RST after 5 ms", &[RST_AFTER_5_MS], 1, &[MS_5]),
        trial("FIN after 50 ms", &[FIN_AFTER_50_MS], 1, &[MS_50]),
        trial("RST after 50 ms", &[RST_AFTER_50_MS], 1, &[MS_50]),
        trial("FIN after 1 s", &[FIN_AFTER_1_S], 50, &[S_1]),
        trial("RST after 1 s", &[RST_AFTER_1_S], 50, &[S_1]),
        trial("Connection: close", &[CLOSES_AS_IT_SAYS], 1, NO_PAUSE),
        trial("Keep-Alive: timeout=1", &[ONE_SECOND_AS_IT_SAYS], 50, &[S_1]),
        trial("Keep-Alive: timeout=2", &[TWO_SECONDS_AS_IT_SAYS], 50, &[S_2]),
    ] {
        let figures = trial.run();
        assert_eq!((figures.sends, figures.doubled), (20_000, 0), "{}", trial.name);
        assert!(figures.ambiguous <= 20, "{}: {} in doubt", trial.name, figures.ambiguous);
    }
}
