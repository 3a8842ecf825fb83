//! Bots that panic, hang, flood, answer themselves or kill the process: whatever one of them does,
//! it is counted under its name, what it wanted is whole or not at all, and nobody else notices.
//! In virtual time; what needs real threads is in `spinning_bots.rs`, what needs a real process in
//! the crate `hostile`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Hourglass, Notebook, On, assert_quiescent, events, greeter, opened, pause, words};
use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_scheduler::Clock;
use imbabot_simulator::Endpoint;
use imbabot_store::{
    Bodies, CancelFilter, DeliveryState, ErrorKind, EventOutcome, PauseScope, SqliteStore, Store,
};
use imbabot_testing::{FlakyStore, Harness};

/// The value of a metric.
fn metric(chat: &mut Harness, name: &str) -> u64 {
    let text = chat.world().metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

fn invocations(chat: &mut Harness, bot: &str, outcome: &str) -> u64 {
    metric(chat, &format!("imbabot_bot_invocations_total{{bot=\"{bot}\",outcome=\"{outcome}\"}}"))
}

/// A bot that does one bad thing with each event, and notes each time.
struct Bad<F>(F, Arc<AtomicUsize>);

#[async_trait]
impl<F, R> Bot for Bad<F>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if let Event::Room(event) = event {
            ctx.send(event.room.id, "this is never said");
        }
        ctx.memory().set("touched", &true)?;
        ctx.wake("never", Duration::ZERO);
        (self.0)().await
    }
}

/// Whatever it is dropped in, it panics there.
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a Drop");
        }
    }
}

/// An error that cannot be told.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in a Display")
    }
}

impl std::error::Error for Unspeakable {}

/// Rooms open beside a bad bot: everybody else is greeted at once, and the bad one's tries are
/// counted under its name and end.
fn harms_nobody<F, R>(outcome: &str, bad: F)
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let runs = Arc::new(AtomicUsize::new(0));
    let mut chat = Harness::new()
        .may_fail()
        .bot("bad", Bad(bad, Arc::clone(&runs)))
        .bot("greeter", greeter())
        .with(|settings| settings.poll.rooms = seconds(5));
    chat.poll();
    for n in 0..5 {
        chat.open_room(&format!("Room {n}"));
        let before = chat.world().clock.now();
        chat.poll();
        assert_eq!(chat.sent().len(), n + 1, "{outcome}: nobody waits for the bad one");
        let posted = chat.world().simulator.log().last().unwrap().at;
        assert_eq!(posted, before.as_micros(), "{outcome}: at once");
        chat.advance(minutes(3));
    }
    assert_eq!(runs.load(Ordering::Relaxed), 15, "{outcome}: three tries for each event");
    assert_eq!(invocations(&mut chat, "bad", outcome), 15);
    assert_eq!(metric(&mut chat, "imbabot_events_poisoned_total{bot=\"bad\"}"), 5);
    assert_eq!(events(&mut chat, true).len(), 5);
    assert!(chat.world().engine().unwrap().reasons().is_empty());
    assert_eq!(chat.deliveries().len(), 5, "nothing of a handler that failed was kept");
    assert_quiescent(&mut chat);
}

#[test]
fn k1_a_panic_before_the_first_await_harms_nobody() {
    harms_nobody("panic", || -> std::future::Ready<Result<()>> { panic!("on purpose") });
}

#[test]
fn k1_a_panic_after_an_await_harms_nobody() {
    harms_nobody("panic", || async {
        let mut polled = false;
        std::future::poll_fn(move |context| {
            if std::mem::replace(&mut polled, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        panic!("on purpose, {}", "with words of its own")
    });
}

#[test]
fn k1_a_panic_in_a_drop_at_the_end_of_a_handler_harms_nobody() {
    harms_nobody("panic", || async {
        let _mine = Mine;
        Ok(())
    });
}

#[test]
fn k1_a_panic_in_the_drop_of_a_handler_that_is_stopped_harms_nobody() {
    harms_nobody("timeout", || async {
        let _mine = Mine;
        std::future::pending().await
    });
}

#[test]
fn k1_a_panic_whose_payload_panics_when_dropped_harms_nobody() {
    harms_nobody("panic", || async { std::panic::panic_any(Mine) });
}

#[test]
fn k1_an_error_that_panics_when_it_is_told_harms_nobody() {
    harms_nobody("panic", || async { Err(Unspeakable.into()) });
}

#[test]
fn k1_an_error_harms_nobody_and_is_told_with_its_causes() {
    let bad = Bad(|| async { Err(anyhow_error()) }, Arc::default());
    let mut chat = Harness::new().bot("bad", bad).may_fail();
    chat.open_room("Support");
    chat.poll();
    chat.advance(minutes(1));
    let poisoned = events(&mut chat, true);
    assert_eq!(poisoned[0].reason.as_deref(), Some("error: the outer: the inner"));
}

fn anyhow_error() -> <Result<()> as IntoResult>::Error {
    let inner = std::io::Error::other("the inner");
    <<Result<()> as IntoResult>::Error>::from(inner).context("the outer")
}

/// Names the error of a handler without naming its crate.
trait IntoResult {
    type Error;
}

impl<T, E> IntoResult for std::result::Result<T, E> {
    type Error = E;
}

/// A bot that panics where it is asked about itself.
struct Shy {
    listens: bool,
    schedules: bool,
}

#[async_trait]
impl Bot for Shy {
    fn listens(&self) -> Listen {
        assert!(!self.listens, "I do not know what I listen to");
        Listen::ROOMS
    }

    fn schedules(&self) -> Vec<imbabot_bot::Schedule> {
        assert!(!self.schedules, "I do not know when");
        Vec::new()
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Some(room) = opened(event) {
            ctx.send(room.id, "from the shy one");
        }
        Ok(())
    }
}

impl Drop for Shy {
    fn drop(&mut self) {
        panic!("not even now");
    }
}

#[test]
fn k1_a_bot_that_panics_when_asked_about_itself_is_told_nothing_and_harms_nobody() {
    for (listens, schedules) in [(true, false), (false, true), (true, true)] {
        let mut chat =
            Harness::new().bot("shy", Shy { listens, schedules }).bot("greeter", greeter());
        for n in 0..10 {
            chat.open_room(&format!("Room {n}"));
            chat.poll();
            chat.advance(minutes(1));
        }
        assert_eq!(chat.sent().len(), 10);
        assert!(chat.sent().iter().all(|line| line.contains("Welcome")), "{:?}", chat.sent());
        assert_eq!(invocations(&mut chat, "shy", "panic"), 1);
        assert_quiescent(&mut chat);
    }
}

#[test]
fn k1_a_bot_that_panics_when_it_is_dropped_stops_no_reload() {
    let mut chat = Harness::new()
        .bot("shy", Shy { listens: false, schedules: false })
        .bot("greeter", greeter());
    chat.open_room("One");
    chat.poll();
    assert_eq!(chat.sent().len(), 2);
    // The engine drops it, and so does the test.
    chat.world().settings().bots.remove(0);
    chat.world().reload();
    chat.advance(seconds(10));
    chat.open_room("Two");
    chat.poll();
    assert_eq!(chat.sent().len(), 3);
    assert_quiescent(&mut chat);
}

#[test]
fn k2_a_handler_that_never_returns_is_stopped_tried_twice_more_and_others_go_on() {
    harms_nobody("timeout", std::future::pending);
}

#[test]
fn k2_a_handler_has_its_own_bots_time_and_its_lane_waits_while_others_do_not() {
    struct Slow(Hourglass, Notebook);
    #[async_trait]
    impl Bot for Slow {
        async fn on_event(&self, _: &mut Context, event: &Event) -> Result<()> {
            self.1.write(format!("begins {}", words(event)));
            if words(event).ends_with("Hangs") {
                self.0.sleep(hours(1)).await;
            }
            self.1.write(format!("ends {}", words(event)));
            Ok(())
        }
    }
    let (glass, notebook) = (Hourglass::default(), Notebook::default());
    let mut chat = Harness::new()
        .may_fail()
        .bot("slow", Slow(glass.clone(), notebook.clone()))
        .with(|settings| settings.bots[0].timeout = seconds(7));
    glass.of(&mut chat);
    chat.poll();
    let hangs = chat.open_room("Hangs");
    chat.poll();
    chat.rename_room(hangs, "Fine");
    chat.open_room("Other");
    chat.poll();
    // The other room is served at once; what comes later in the same room waits for its turn.
    assert_eq!(
        notebook.take(),
        ["begins opened Hangs", "begins opened Other", "ends opened Other"]
    );
    chat.advance(seconds(7) + seconds(1) + seconds(7) + seconds(10));
    assert_eq!(notebook.take(), ["begins opened Hangs", "begins opened Hangs"]);
    chat.advance(seconds(7));
    assert_eq!(notebook.take(), ["begins renamed Fine", "ends renamed Fine"]);
    assert_eq!(events(&mut chat, true).len(), 1);
}

#[test]
fn k4_a_slow_bot_delays_no_poll_and_misses_no_change() {
    /// Half a second for each event.
    struct Slow(Hourglass, Notebook);
    #[async_trait]
    impl Bot for Slow {
        async fn on_event(&self, _: &mut Context, event: &Event) -> Result<()> {
            self.0.sleep(Duration::from_millis(500)).await;
            self.1.write(words(event));
            Ok(())
        }
    }
    const ROOMS: usize = 1_000;
    let (glass, notebook) = (Hourglass::default(), Notebook::default());
    let mut chat = Harness::new()
        .bot("slow", Slow(glass.clone(), notebook.clone()))
        .with(|settings| settings.poll.rooms = seconds(5));
    glass.of(&mut chat);
    chat.world().simulator.populate(ROOMS);
    chat.poll();
    let ids: Vec<i64> = chat.world().simulator.rooms().iter().map(|room| room.id).collect();
    for round in 0..3 {
        for id in &ids {
            chat.world().simulator.rename_room(*id, &format!("{id} round {round}")).unwrap();
        }
        chat.advance(seconds(5));
    }
    let polls = |chat: &mut Harness| {
        chat.world()
            .simulator
            .log()
            .iter()
            .filter(|e| e.endpoint == Some(Endpoint::GetRooms))
            .count()
    };
    // Eight at once, half a second each: it takes more than three minutes for all of it.
    let before = polls(&mut chat);
    chat.advance(minutes(1));
    assert_eq!(polls(&mut chat) - before, 12, "one every five seconds");
    let done = notebook.take();
    assert!(done.len() < ROOMS * 2, "{} within a minute", done.len());
    chat.advance(minutes(10));
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in done.into_iter().chain(notebook.take()) {
        let (room, round) = line.strip_prefix("renamed ").unwrap().split_once(' ').unwrap();
        told.entry(room.to_owned()).or_default().push(round.to_owned());
    }
    assert_eq!(told.len(), ROOMS);
    for (room, rounds) in told {
        assert_eq!(rounds, ["round 0", "round 1", "round 2"], "{room}: each change, in order");
    }
}

#[test]
fn k4_ten_thousand_rooms_that_change_at_once_wait_in_the_store() {
    let mut chat = Harness::new()
        .bot("hangs", Bad(std::future::pending, Arc::default()))
        .with(|settings| settings.poll.rooms = seconds(5));
    chat.world().simulator.populate(10_000);
    chat.poll();
    let ids: Vec<i64> = chat.world().simulator.rooms().iter().map(|room| room.id).collect();
    for id in ids {
        chat.world().simulator.touch_room(id).unwrap();
    }
    chat.advance(seconds(5));
    assert_eq!(events(&mut chat, false).len(), 10_000);
    let log = |chat: &mut Harness| chat.world().simulator.log().len();
    let before = log(&mut chat);
    chat.advance(seconds(20));
    assert_eq!(log(&mut chat) - before, 4);
}

/// What a bot that says so much at once gets through.
fn flood(messages: usize, rooms: usize) -> (usize, usize) {
    let mut chat = Harness::new().bot(
        "storm",
        On(move |ctx: &mut Context, event: &Event| {
            if opened(event).is_some_and(|room| room.name == "Trigger") {
                for n in 0..messages {
                    let room = RoomId(u64::try_from(n % rooms).unwrap() + 1);
                    ctx.send(room, format!("number {n}"));
                }
            }
        }),
    );
    for n in 1..=rooms {
        let seed = imbabot_testing::RoomSeed {
            id: Some(i64::try_from(n).unwrap()),
            name: format!("Room {n}"),
            ..Default::default()
        };
        chat.world().simulator.open_room_with(seed);
    }
    chat.poll();
    chat.open_room("Trigger");
    chat.poll();
    chat.advance(minutes(1));
    let dead = chat
        .deliveries()
        .iter()
        .filter(|d| (d.state, d.reason.as_deref()) == (DeliveryState::Dead, Some("suppressed")))
        .count();
    assert_quiescent(&mut chat);
    (chat.sent().len(), dead)
}

#[test]
fn k5_a_thousand_posts_from_one_event_end_at_the_limit_and_stay_visible() {
    assert_eq!(flood(1_000, 1), (5, 995));
    assert_eq!(flood(1_000, 100), (5, 995));
    assert_eq!(flood(5, 1), (5, 0));
    assert_eq!(flood(6, 1), (5, 1));
}

#[test]
fn k5_ten_thousand_posts_from_one_event_are_the_most_that_stay_visible() {
    assert_eq!(flood(10_000, 10), (5, 9_995));
}

#[test]
fn k5_more_than_is_kept_for_one_event_is_an_error_of_the_handler_that_says_so() {
    type Excess = fn(&mut Context) -> Result<()>;
    let cases: [(&str, Excess); 7] = [
        ("error: more than 10000 messages were recorded for one event", |ctx| {
            (0..1_000_000).for_each(|n| {
                ctx.send(RoomId(1), format!("number {n}")).key(format!("key {n}"));
            });
            Ok(())
        }),
        ("error: more than 10000 timers were recorded for one event", |ctx| {
            (0..1_000_000).for_each(|n| ctx.wake(format!("timer {n}"), hours(1)));
            Ok(())
        }),
        ("error: more than 10000 keys to take back were recorded for one event", |ctx| {
            (0..20_000).for_each(|n| ctx.cancel(format!("key {n}")));
            Ok(())
        }),
        ("error: more than 8 MiB of texts and keys were recorded for one event", |ctx| {
            (0..2_000).for_each(|_| {
                ctx.send(RoomId(1), "x".repeat(1024 * 1024));
            });
            Ok(())
        }),
        ("error: a value does not fit into a bot's memory: 1048576 bytes at most", |ctx| {
            ctx.memory().set("large", &"x".repeat(10 * 1024 * 1024))
        }),
        ("error: one handler writes at most 4194304 bytes to a bot's memory", |ctx| {
            (0..100_000).try_for_each(|n| ctx.memory().set(format!("key {n}"), &"x".repeat(1_000)))
        }),
        ("error: more keys of the memory were removed than one event may", |ctx| {
            (0..100_000).for_each(|n| ctx.memory().remove(format!("key {n}")));
            Ok(())
        }),
    ];
    struct Greedy(Excess);
    #[async_trait]
    impl Bot for Greedy {
        async fn on_event(&self, ctx: &mut Context, _: &Event) -> Result<()> {
            (self.0)(ctx)
        }
    }
    for (says, excess) in cases {
        let mut chat =
            Harness::new().bot("greedy", Greedy(excess)).bot("greeter", greeter()).may_fail();
        chat.open_room("Support");
        chat.poll();
        chat.advance(minutes(1));
        let poisoned = events(&mut chat, true);
        assert_eq!(poisoned.len(), 1, "{says}");
        assert_eq!(poisoned[0].reason.as_deref(), Some(says));
        assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
        assert_eq!(chat.deliveries().len(), 1, "{says}: nothing of it was kept");
        assert_quiescent(&mut chat);
    }
}

/// Answers whatever happens in a room: a bot that would answer itself for ever.
fn echo() -> impl Bot {
    On(|ctx: &mut Context, event: &Event| match event {
        Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => {
            ctx.send(room.id, "Hello.");
        }
        Event::Room(RoomEvent { change: RoomChange::Touched, room, .. }) => {
            ctx.send(room.id, "I saw that.");
        }
        _ => {}
    })
}

#[test]
fn k6_a_bot_that_answers_itself_posts_once_in_a_hundred_polls() {
    // However the answer to its message went, and however the polls lie around it.
    let faults = [
        "",
        "send_msg:late=1s",
        "send_msg:late=12s",
        "send_msg:apply-then-close",
        "send_msg:apply-then-silent",
        "send_msg:no-id",
        "send_msg:body=@html:applied",
        "send_msg:status=502:applied",
        "send_msg:truncate=10",
    ];
    for fault in faults {
        for every in [Duration::from_millis(300), seconds(1), seconds(5), seconds(61)] {
            let mut chat = Harness::new().bot("echo", echo());
            chat.poll();
            chat.open_room("Support");
            if !fault.is_empty() {
                chat.world().simulator.faults().push_spec(fault).unwrap();
            }
            for _ in 0..100 {
                chat.poll();
                chat.advance(every);
            }
            assert_eq!(chat.sent(), ["Support: Hello."], "{fault:?}, a poll every {every:?}");
            chat.world().check();
        }
    }
}

#[test]
fn k6_what_others_write_after_its_own_message_is_seen() {
    let mut chat = Harness::new().bot("echo", echo());
    let room = chat.open_room("Support");
    for _ in 0..100 {
        chat.poll();
        chat.advance(seconds(5));
    }
    assert_eq!(chat.sent(), ["Support: Hello."]);
    chat.post(room, 7, "hello");
    chat.poll();
    assert_eq!(chat.sent(), ["Support: Hello.", "Support: I saw that."]);
    chat.world().check();
}

#[test]
fn k6_a_bot_does_not_answer_itself_over_a_restart() {
    for fault in ["send_msg:late=3s", "send_msg:apply-then-silent", "send_msg:apply-then-close"] {
        let mut chat =
            Harness::new().bot("echo", echo()).with(|settings| settings.poll.rooms = seconds(5));
        chat.poll();
        chat.open_room("Support");
        chat.world().simulator.faults().push_spec(fault).unwrap();
        chat.advance(seconds(6));
        for _ in 0..20 {
            chat.world().crash();
            chat.world().start();
            chat.advance(seconds(7));
        }
        assert_eq!(chat.sent(), ["Support: Hello."], "{fault}");
        chat.world().check();
    }
}

#[test]
fn k6_two_bots_do_not_answer_each_other() {
    let mut chat = Harness::new()
        .bot("echo-1", echo())
        .bot("echo-2", echo())
        .with(|settings| settings.bots[1].sender = Some(7.into()));
    chat.poll();
    chat.open_room("Support");
    for _ in 0..100 {
        chat.poll();
        chat.advance(seconds(5));
    }
    assert_eq!(chat.sent(), ["Support: Hello.", "Support: Hello."]);
    chat.world().check();
}

#[test]
fn k6_what_the_rule_misses_is_bounded_over_restarts() {
    // A server that touches the room again and again, long after every message: nothing tells that
    // apart from people.
    let mut chat = Harness::new().bot("echo", echo());
    chat.poll();
    let room = chat.open_room("Support");
    chat.poll();
    for n in 0..600 {
        chat.advance(seconds(6));
        chat.world().simulator.touch_room(i64::try_from(room.0).unwrap()).unwrap();
        chat.poll();
        if n % 20 == 0 {
            chat.world().crash();
            chat.world().start();
        }
    }
    // An hour: six in ten minutes.
    let said = chat.sent().len();
    assert!((30..=42).contains(&said), "{said} in an hour");
    chat.world().check();
}

#[test]
fn k8_an_event_on_which_a_bot_always_panics_is_set_aside_and_stays_so() {
    let sick = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&sick);
    let mut chat = Harness::new().may_fail().bot(
        "picky",
        On(move |ctx: &mut Context, event: &Event| {
            if let Some(room) = opened(event) {
                assert!(!(told.load(Ordering::Relaxed) && room.name == "Poison"), "poison");
                ctx.send(room.id, "fine");
            }
        }),
    );
    chat.poll();
    let poison = chat.open_room("Poison");
    chat.poll();
    // Killed between its tries, then started again and again.
    for _ in 0..6 {
        chat.world().crash();
        chat.world().start();
        chat.advance(minutes(1));
    }
    let poisoned = events(&mut chat, true);
    assert_eq!(poisoned.len(), 1);
    assert_eq!((poisoned[0].tries, poisoned[0].room), (3, Some(poison)));
    assert_eq!(poisoned[0].reason.as_deref(), Some("panicked: poison"));
    // For the others, and for later events of the same room, nothing changed.
    chat.open_room("Healthy");
    chat.poll();
    assert_eq!(chat.sent(), ["Healthy: fine"]);
    // Mended, and tried again by hand.
    sick.store(false, Ordering::Relaxed);
    let (store, now) = (chat.world().store(), chat.world().clock.now());
    assert!(block_on(store.retry_event(now, &poisoned[0].id)).unwrap());
    chat.world().engine().unwrap().wake();
    chat.advance(seconds(1));
    assert_eq!(chat.sent(), ["Healthy: fine", "Poison: fine"]);
    assert!(events(&mut chat, true).is_empty());
    assert_quiescent(&mut chat);
}

/// Says something to each room that opens, after so long; where it meets poison, everything stops.
struct Deadly {
    glass: Hourglass,
    takes: Duration,
    begun: Notebook,
}

#[async_trait]
impl Bot for Deadly {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Some(room) = opened(event) {
            self.begun.write(room.name.to_string());
            self.glass.sleep(self.takes).await;
            ctx.send(room.id, "fine");
        }
        Ok(())
    }
}

fn deadly(takes: Duration) -> (Harness, Notebook) {
    let (glass, begun) = (Hourglass::default(), Notebook::default());
    let bot = Deadly { glass: glass.clone(), takes, begun: begun.clone() };
    let mut chat = Harness::new().bot("deadly", bot);
    glass.of(&mut chat);
    chat.poll();
    (chat, begun)
}

#[test]
fn k8_an_event_on_which_the_process_dies_three_times_is_not_run_again() {
    let (mut chat, begun) = deadly(seconds(1));
    // The poison is one of many that are on their way.
    for n in 0..8 {
        chat.open_room(&if n == 3 { "Poison".to_owned() } else { format!("Room {n}") });
    }
    chat.poll();
    assert_eq!(begun.take().len(), 8);
    chat.world().crash();
    let mut starts = 1;
    // From now on the process dies whenever the poison is begun.
    for _ in 0..60 {
        chat.world().start();
        for _ in 0..200 {
            chat.advance(Duration::from_millis(100));
            if begun.take().contains(&"Poison".to_owned()) {
                chat.world().crash();
                starts += 1;
                break;
            }
        }
        if chat.sent().len() == 7 {
            break;
        }
    }
    chat.world().start();
    chat.advance(minutes(1));
    assert_eq!(starts, 3, "it dies three times, and no more");
    assert_eq!(chat.sent().len(), 7, "those that were on their way with it are said");
    let poisoned = events(&mut chat, true);
    assert_eq!(poisoned.len(), 1);
    assert_eq!(poisoned[0].reason.as_deref(), Some("the process died on every try"));
    // Stable from here on.
    for _ in 0..4 {
        chat.world().crash();
        chat.world().start();
        chat.advance(minutes(1));
        assert_eq!(begun.take(), Vec::<String>::new());
    }
    assert_quiescent(&mut chat);
}

#[test]
fn k8_healthy_events_survive_any_number_of_deploys() {
    let (mut chat, begun) = deadly(seconds(10));
    for n in 0..8 {
        chat.open_room(&format!("Room {n}"));
    }
    chat.poll();
    // Stopped in the middle of its work, twenty times over, with no time to finish.
    for _ in 0..20 {
        assert_eq!(begun.take().len(), 8);
        chat.world().stop(seconds(5));
        chat.world().start();
    }
    chat.advance(seconds(11));
    assert_eq!(chat.sent().len(), 8);
    assert!(events(&mut chat, true).is_empty());
    assert!(events(&mut chat, false).iter().all(|event| event.tries == 1));
    assert_quiescent(&mut chat);
}

#[test]
fn k8_healthy_events_survive_any_number_of_kills_right_after_the_start() {
    let (mut chat, begun) = deadly(seconds(1));
    for n in 0..8 {
        chat.open_room(&format!("Room {n}"));
    }
    chat.poll();
    assert_eq!(begun.take().len(), 8);
    // Whatever kills a process so soon, it is not an event that has not begun yet.
    for millis in (0..50).map(|n| n * 20) {
        chat.world().crash();
        chat.world().start();
        chat.advance(Duration::from_millis(millis));
        assert_eq!(begun.take(), Vec::<String>::new());
    }
    chat.advance(seconds(20));
    assert_eq!(chat.sent().len(), 8);
    assert!(events(&mut chat, true).is_empty());
}

#[test]
fn k8_an_event_that_runs_when_something_else_is_killed_twice_is_not_lost() {
    let (mut chat, begun) = deadly(seconds(1));
    chat.open_room("Unlucky");
    chat.poll();
    for _ in 0..2 {
        assert_eq!(begun.take(), ["Unlucky"]);
        chat.world().crash();
        chat.world().start();
        chat.advance(seconds(1));
    }
    chat.advance(seconds(2));
    assert_eq!(chat.sent(), ["Unlucky: fine"]);
    assert!(events(&mut chat, true).is_empty());
}

#[test]
fn k9_what_cannot_be_sent_is_a_dead_row_and_the_handler_goes_on() {
    let bad: [(u64, String); 12] = [
        (1, String::new()),
        (1, " ".into()),
        (1, "\n\t \u{a0}".into()),
        (1, "NUL\0inside".into()),
        (1, "x".repeat(16 * 1024 + 1)),
        (1, "x".repeat(10 * 1024 * 1024)),
        (1, "\u{1f600}".repeat(16 * 1024)),
        (1, format!("x{}", "\u{1f600}".repeat(8 * 1024))),
        (0, "nowhere".into()),
        (u64::MAX, String::new()),
        (0, "x".repeat(1024 * 1024)),
        (0, String::new()),
    ];
    let count = bad.len();
    let mut chat = Harness::new().bot(
        "mute",
        On(move |ctx: &mut Context, event: &Event| {
            if let Some(room) = opened(event) {
                for (to, text) in &bad {
                    let to = if *to == 1 { room.id } else { RoomId(*to) };
                    ctx.send(to, text.clone());
                }
                ctx.send(room.id, "fine");
                ctx.send(room.id, "x".repeat(16 * 1024));
            }
        }),
    );
    chat.open_room("Support");
    chat.poll();
    chat.advance(minutes(1));
    assert_eq!(chat.sent().len(), 2, "what is bad takes nobody's place");
    let deliveries = chat.deliveries();
    let dead: Vec<_> =
        deliveries.iter().filter(|d| d.reason.as_deref() == Some("invalid")).collect();
    assert_eq!(dead.len(), count);
    assert!(dead.iter().all(|d| d.text.as_ref().is_none_or(|text| text.len() <= 16 * 1024 + 4)));
    assert_quiescent(&mut chat);
}

#[test]
fn k9_a_room_that_does_not_exist_is_refused_by_the_server_and_nothing_else_is() {
    let mut chat = Harness::new().bot(
        "lost",
        On(|ctx: &mut Context, event: &Event| {
            if let Some(room) = opened(event) {
                ctx.send(RoomId(u64::MAX >> 1), "into the void");
                ctx.send(RoomId(u64::MAX), "and beyond");
                ctx.send(room.id, "fine");
            }
        }),
    );
    chat.open_room("Support");
    chat.poll();
    chat.advance(minutes(1));
    assert_eq!(chat.sent(), ["Support: fine"]);
    let dead: Vec<_> = chat.deliveries().into_iter().filter_map(|d| d.reason).collect();
    assert_eq!(dead, ["rejected", "invalid"]);
    assert_quiescent(&mut chat);
}

#[test]
fn k10_what_a_handler_wants_while_the_daemon_stops_is_kept_and_sent_by_the_next() {
    let (mut chat, begun) = deadly(seconds(10));
    chat.open_room("Late");
    chat.open_room("Later");
    chat.poll();
    assert_eq!(begun.take().len(), 2);
    // It ends within the patience of a stop: committed, and not sent any more.
    chat.world().stop(seconds(25));
    assert_eq!(chat.sent(), Vec::<String>::new());
    assert!(chat.deliveries().iter().all(|d| d.state == DeliveryState::Queued));
    assert_eq!(chat.deliveries().len(), 2);
    chat.open_room("After the stop");
    chat.advance(minutes(1));
    assert_eq!(begun.take(), Vec::<String>::new(), "nothing is begun any more");
    let accepted: Vec<_> = chat.deliveries().iter().map(|d| d.id).collect();
    chat.world().start();
    chat.poll();
    chat.advance(minutes(1));
    assert_eq!(chat.sent().len(), 3);
    let world = chat.world();
    let check = imbabot_testing::Check::new().ledger(world.ledger()).accepted(accepted).quiescent();
    assert_eq!(check.run(), []);
}

#[test]
fn k10_what_a_bot_wants_while_paused_is_queued_and_sent_afterwards() {
    for scope in [
        PauseScope::All,
        PauseScope::Widget("main".parse().unwrap()),
        PauseScope::Bot("deadly".parse().unwrap()),
    ] {
        let (mut chat, begun) = deadly(seconds(10));
        chat.open_room("Before");
        chat.poll();
        assert_eq!(begun.take().len(), 1);
        pause(&mut chat, &scope, true);
        // The handler that runs is not interrupted; what it says waits, over a restart too.
        chat.advance(seconds(11));
        chat.world().crash();
        chat.world().start();
        chat.open_room("Meanwhile");
        chat.poll();
        chat.advance(minutes(10));
        assert_eq!(chat.sent(), Vec::<String>::new(), "{scope}");
        assert_eq!(chat.deliveries()[0].state, DeliveryState::Queued, "{scope}");
        pause(&mut chat, &scope, false);
        chat.advance(seconds(11));
        assert_eq!(chat.sent(), ["Before: fine", "Meanwhile: fine"], "{scope}");
        assert_quiescent(&mut chat);
    }
}

#[test]
fn k11_the_same_key_twice_is_one_message_also_after_a_restart() {
    let mut chat = Harness::new()
        .bot(
            "keyed",
            On(|ctx: &mut Context, event: &Event| {
                if let Event::Room(RoomEvent { room, .. }) = event {
                    let first = ctx.send(room.id, "once").key("once").id();
                    let again = ctx.send(room.id, "once").key("once").id();
                    assert_eq!(first, again);
                }
            }),
        )
        .with(|settings| settings.limits.per_bot_and_room.0 = 1_000);
    let room = chat.open_room("Support");
    for n in 0..10 {
        chat.poll();
        chat.advance(minutes(1));
        chat.rename_room(room, &format!("Support {n}"));
        if n % 3 == 0 {
            chat.world().crash();
            chat.world().start();
        }
    }
    assert_eq!(chat.sent().len(), 1);
    assert_eq!(chat.deliveries().len(), 1);
    assert_quiescent(&mut chat);
}

#[test]
fn k11_the_same_key_with_another_text_or_room_is_refused_and_changes_nothing() {
    let mut chat = Harness::new().bot(
        "keyed",
        On(|ctx: &mut Context, event: &Event| {
            if let Event::Room(RoomEvent { change, room, .. }) = event {
                let text = if *change == RoomChange::Opened { "one" } else { "another" };
                ctx.send(room.id, text).key("greeting").after(hours(1)).expires_after(hours(1));
            }
        }),
    );
    let room = chat.open_room("Support");
    chat.poll();
    chat.rename_room(room, "Renamed");
    chat.poll();
    chat.world().crash();
    chat.world().start();
    chat.open_room("Other");
    chat.poll();
    assert_eq!(chat.deliveries().len(), 1);
    chat.advance(hours(2));
    assert_eq!(chat.sent(), ["Renamed: one"]);
    // Nobody's error: the handlers ended well.
    let mut told = events(&mut chat, false);
    told.retain(|event| event.event_kind == "room");
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|event| event.outcome == Some(EventOutcome::Handled)));
    assert_quiescent(&mut chat);
}

#[test]
fn k11_two_bots_may_use_the_same_key() {
    let keyed = || {
        On(|ctx: &mut Context, event: &Event| {
            if let Some(room) = opened(event) {
                ctx.send(room.id, "mine").key("greeting");
            }
        })
    };
    let mut chat = Harness::new().bot("one", keyed()).bot("two", keyed());
    chat.open_room("Support");
    chat.poll();
    chat.advance(minutes(1));
    assert_eq!(chat.sent().len(), 2);
    assert_quiescent(&mut chat);
}

/// A bot that was told of a room and says something in an hour.
fn in_an_hour() -> Harness {
    let mut chat = Harness::new()
        .bot(
            "leaving",
            On(|ctx: &mut Context, event: &Event| {
                if let Some(room) = opened(event) {
                    ctx.send(room.id, "in an hour").after(hours(1));
                    ctx.wake("later", hours(1));
                }
            }),
        )
        .bot("staying", greeter());
    chat.open_room("Support");
    chat.poll();
    chat.world().settings().bots.remove(0);
    chat
}

#[test]
fn k14_what_a_bot_wanted_is_delivered_also_after_it_was_removed() {
    // By a reload, and by a restart with another configuration.
    for by_reload in [true, false] {
        let mut chat = in_an_hour();
        if by_reload {
            chat.world().reload();
        } else {
            chat.world().crash();
            chat.world().start();
        }
        chat.advance(hours(2));
        assert_eq!(chat.sent(), ["Support: Welcome to Support!", "Support: in an hour"]);
        // Nobody is there to be told of it.
        let waiting = events(&mut chat, false).iter().filter(|e| e.outcome.is_none()).count();
        assert_eq!(waiting, 0);
        assert_quiescent(&mut chat);
    }
}

#[test]
fn k14_what_a_removed_bot_wanted_can_be_cancelled() {
    let mut chat = in_an_hour();
    chat.world().reload();
    let (store, now) = (chat.world().store(), chat.world().clock.now());
    let filter = CancelFilter::Bot("leaving".parse().unwrap());
    assert_eq!(block_on(store.cancel(now, &filter)).unwrap().len(), 1);
    chat.advance(hours(2));
    assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
    let mut deliveries = chat.deliveries();
    deliveries.retain(|delivery| delivery.text.as_deref() == Some("in an hour"));
    let last = deliveries.remove(0);
    assert_eq!((last.state, last.reason.as_deref()), (DeliveryState::Dead, Some("cancelled")));
    assert_quiescent(&mut chat);
}

#[test]
fn k14_a_bot_that_comes_back_is_told_of_what_happens_from_then_on() {
    let mut chat = in_an_hour();
    chat.world().reload();
    chat.open_room("Unseen");
    chat.poll();
    let back = imbabot_scheduler::BotSettings::new("leaving".parse().unwrap(), Arc::new(greeter()));
    chat.world().settings().bots.push(back);
    chat.world().reload();
    chat.open_room("Seen");
    chat.poll();
    chat.advance(minutes(1));
    let said: Vec<_> = chat
        .deliveries()
        .into_iter()
        .filter(|d| d.bot.as_ref().unwrap().as_str() == "leaving")
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
}

/// A chat whose store can be told to fail.
fn flaky(bot: impl Bot) -> (Harness, Arc<FlakyStore>) {
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
    let store = Arc::new(FlakyStore::over(inner));
    let over: Arc<dyn Store> = Arc::<FlakyStore>::clone(&store);
    (Harness::new().may_fail().bot("bot", bot).over(over), store)
}

#[test]
fn a_handlers_effects_are_committed_once_however_long_the_store_was_busy() {
    for times in [1, 5, 29] {
        for kind in [ErrorKind::Retryable, ErrorKind::Full] {
            let runs = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&runs);
            let (mut chat, store) = flaky(On(move |ctx: &mut Context, event: &Event| {
                if let Some(room) = opened(event) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    ctx.send(room.id, format!("Welcome to {}!", room.name));
                    ctx.wake(format!("{}", room.id), minutes(1));
                }
            }));
            chat.poll();
            for n in 0..3 {
                chat.open_room(&format!("Room {n}"));
            }
            store.fail("commit_handled", times, kind.clone());
            chat.poll();
            assert!(chat.sent().len() < 3);
            let reasons = chat.world().engine().unwrap().reasons();
            // With one failure of three another commit has worked since.
            assert_eq!(reasons.is_empty(), times < 3, "{reasons:?}");
            chat.advance(seconds(40));
            assert_eq!(store.struck("commit_handled"), times);
            assert_eq!(chat.sent().len(), 3, "{times} times {kind:?}");
            assert_eq!(runs.load(Ordering::Relaxed), 3, "each handler ran once");
            assert!(chat.world().engine().unwrap().reasons().is_empty());
            chat.advance(minutes(2));
            assert_eq!(invocations(&mut chat, "bot", "ok"), 9, "a room, its report, its timer");
            assert_quiescent(&mut chat);
        }
    }
}

#[test]
fn every_verb_of_a_delivery_may_fail_and_nothing_is_lost_or_doubled() {
    for verb in [
        "claim_events",
        "commit_handled",
        "fail_event",
        "claim",
        "settle",
        "sweep",
        "commit_poll",
        "snapshot_index",
        "fire_wakes",
        "hold_widget",
        "tally",
        "paused",
    ] {
        let fails = AtomicUsize::new(0);
        let (mut chat, store) = flaky(On(move |ctx: &mut Context, event: &Event| {
            if let Some(room) = opened(event) {
                // Each event fails on its first try.
                assert!(fails.fetch_add(1, Ordering::Relaxed) % 2 == 1, "the first try");
                ctx.send(room.id, "Hello.");
            }
        }));
        chat.world().settings().poll.rooms = seconds(5);
        chat.poll();
        for n in 0..6 {
            chat.world().simulator.faults().push_spec("send_msg:status=429:retry-after=2").unwrap();
            chat.open_room(&format!("Room {n}"));
            store.fail(verb, 5, ErrorKind::Retryable);
            chat.advance(minutes(2));
        }
        assert_eq!(chat.sent().len(), 6, "{verb}");
        assert_quiescent(&mut chat);
    }
}

#[test]
fn a_store_that_works_again_is_said_to_work_whatever_had_failed() {
    for verb in ["give_up_sending", "release_running", "note_breakers", "hold_widget"] {
        let (mut chat, store) = flaky(greeter());
        chat.world().settings().poll.rooms = seconds(5);
        store.fail(verb, 1, ErrorKind::Retryable);
        chat.poll();
        chat.world().simulator.faults().push_spec("send_msg:status=429:retry-after=2").unwrap();
        chat.world().simulator.faults().push_spec("send_msg:close:times=3").unwrap();
        for n in 0..6 {
            chat.open_room(&format!("Room {n}"));
        }
        chat.advance(minutes(2));
        assert_eq!(store.struck(verb), 1, "{verb} was not asked for");
        let reasons = chat.world().engine().unwrap().reasons();
        assert!(reasons.is_empty(), "{verb} failed once, two minutes ago: {reasons:?}");
    }
}

#[test]
fn a_kill_while_the_store_is_busy_loses_and_doubles_nothing() {
    for millis in [0, 500, 1_500, 4_900, 5_500] {
        let (mut chat, store) = flaky(greeter());
        chat.poll();
        chat.open_room("Support");
        store.fail("commit_handled", 5, ErrorKind::Retryable);
        chat.poll();
        chat.advance(Duration::from_millis(millis));
        chat.world().crash();
        store.fail("commit_handled", 0, ErrorKind::Retryable);
        chat.world().start();
        chat.advance(minutes(1));
        assert_eq!(chat.sent(), ["Support: Welcome to Support!"], "killed after {millis} ms");
        assert_quiescent(&mut chat);
    }
}

/// Says one thing for every event, to the room with this number.
fn talker(to: u64) -> impl Bot {
    On(move |ctx: &mut Context, event: &Event| {
        if let Event::Room(event) = event {
            let to = if to == 0 { event.room.id } else { RoomId(to) };
            ctx.send(to, "again");
        }
    })
}

/// Renames a room so often, with a restart after each; what was said since.
fn renamed(chat: &mut Harness, room: RoomId, times: usize) -> usize {
    let before = chat.sent().len();
    for n in 0..times {
        chat.rename_room(room, &format!("{before}-{n}"));
        chat.poll();
        chat.advance(Duration::from_millis(10));
        chat.world().crash();
        chat.world().start();
    }
    chat.sent().len() - before
}

#[test]
fn limits_per_bot_and_room_hold_over_restarts() {
    let mut chat = Harness::new().bot("talker", talker(0));
    let (a, b) = (chat.open_room("A"), chat.open_room("B"));
    chat.world().start();
    chat.poll();
    assert_eq!(chat.sent().len(), 2);
    // Six within ten minutes, for each room.
    assert_eq!(renamed(&mut chat, a, 10), 5);
    assert_eq!(renamed(&mut chat, b, 10), 5);
    chat.advance(minutes(9));
    assert_eq!(renamed(&mut chat, a, 3), 0);
    chat.advance(minutes(1));
    assert_eq!(renamed(&mut chat, a, 10), 6);
    let suppressed =
        chat.deliveries().iter().filter(|d| d.reason.as_deref() == Some("suppressed")).count();
    assert_eq!(suppressed, 5 + 5 + 3 + 4);
    assert_quiescent(&mut chat);
}

#[test]
fn limits_per_bot_hold_over_restarts_and_belong_to_one_bot() {
    let mut chat = Harness::new().bot("one", talker(0)).bot("two", talker(0)).with(|settings| {
        settings.limits.per_bot = (4, hours(1));
        settings.limits.per_bot_and_room.0 = 1_000;
    });
    chat.poll();
    let room = chat.open_room("A");
    chat.poll();
    assert_eq!(renamed(&mut chat, room, 10), 6, "three more of each");
    chat.advance(minutes(59));
    assert_eq!(renamed(&mut chat, room, 2), 0);
    chat.advance(minutes(2));
    assert_eq!(renamed(&mut chat, room, 10), 8);
    assert_quiescent(&mut chat);
}

#[test]
fn limits_are_those_of_the_last_reload_and_count_what_was_said_before() {
    let mut chat = Harness::new().bot("talker", talker(0));
    let room = chat.open_room("A");
    chat.poll();
    chat.world().settings().limits.per_bot_and_room = (2, minutes(10));
    chat.world().reload();
    assert_eq!(renamed(&mut chat, room, 5), 1);
    chat.world().settings().limits.per_bot_and_room = (100, minutes(10));
    chat.world().reload();
    assert_eq!(renamed(&mut chat, room, 5), 5);
    assert_quiescent(&mut chat);
}

#[test]
fn limits_do_not_count_what_cannot_be_sent_and_hold_back_no_announcement() {
    use imbabot_bot::{RoomSelector, Schedule, Template};
    let schedule = Schedule::cron("tick", "* * * * *").unwrap();
    let text = Template::announcement("tick").unwrap();
    let announcement = imbabot_scheduler::Announcement::new(schedule, RoomSelector::all(), text);
    let mut chat = Harness::new()
        .bot(
            "talker",
            On(|ctx: &mut Context, event: &Event| {
                if let Event::Room(event) = event {
                    for _ in 0..50 {
                        ctx.send(event.room.id, "");
                    }
                    ctx.send(event.room.id, "fine");
                }
            }),
        )
        .announcement(announcement)
        .with(|settings| {
            settings.limits.per_event = 1;
            settings.limits.per_bot = (2, hours(1));
            settings.poll.rooms = seconds(5);
        });
    let room = chat.open_room("A");
    chat.advance(minutes(10) + seconds(1));
    assert_eq!(renamed(&mut chat, room, 5), 1, "the bot has said one thing before");
    let ticks = chat.sent().iter().filter(|line| line.ends_with(": tick")).count();
    assert_eq!(ticks, 10);
    assert_quiescent(&mut chat);
}
