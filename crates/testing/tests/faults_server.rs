//! What the server says and does that it should not, or that nobody expects: empty lists among good
//! ones, rows that change their nature, rooms that go while a message is on its way, a clock that is
//! an hour off. In virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::time::Duration;

use common::{Notebook, On, assert_quiescent, greeter, occurrences, opened};
use imbabot_bot::prelude::*;
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_scheduler::{Announcement, Clock};
use imbabot_simulator::{Endpoint, RoomSeed};
use imbabot_store::{DeliveryState, Source};
use imbabot_testing::Harness;

/// A chat with a bot that writes everything down.
fn watched() -> (Harness, Notebook) {
    let notebook = Notebook::default();
    (Harness::new().bot("notebook", notebook.clone()), notebook)
}

#[test]
fn s1_an_empty_list_among_good_ones_is_no_news() {
    // Few rooms, where no mass can be seen, and many, where it can; every shape of nothing.
    for rooms in [1, 3, 100] {
        for shape in ["empty", "null", "false", "object"] {
            let (mut chat, notebook) = watched();
            chat.world().simulator.populate(rooms);
            chat.poll();
            notebook.take();
            for _ in 0..20 {
                for _ in 0..2 {
                    let fault = format!("get_rooms:list={shape}");
                    chat.world().simulator.faults().push_spec(&fault).unwrap();
                    chat.poll();
                }
                chat.poll();
            }
            assert_eq!(notebook.take(), Vec::<String>::new(), "{rooms} rooms, {shape}");
            chat.world().check();
        }
    }
}

#[test]
fn s1_a_list_of_which_half_is_missing_now_and_then_is_no_news() {
    let (mut chat, notebook) = watched();
    chat.world().simulator.populate(100);
    chat.poll();
    notebook.take();
    chat.world().simulator.faults().push_spec("get_rooms:list=half:p=0.4").unwrap();
    for _ in 0..30 {
        chat.poll();
        // Never three in a row.
        chat.world().simulator.faults().clear();
        chat.poll();
        chat.world().simulator.faults().push_spec("get_rooms:list=half:p=0.4").unwrap();
    }
    assert_eq!(notebook.take(), Vec::<String>::new());
}

#[test]
fn s1_rooms_that_are_missing_from_three_good_lists_are_gone_once() {
    let (mut chat, notebook) = watched();
    chat.world().simulator.populate(100);
    chat.poll();
    notebook.take();
    let ids: Vec<i64> = chat.world().simulator.rooms().iter().map(|room| room.id).collect();
    // Less than half: this can be.
    for id in &ids[..40] {
        chat.world().simulator.close_room(*id, true).unwrap();
    }
    chat.poll();
    chat.poll();
    assert_eq!(notebook.take(), Vec::<String>::new());
    chat.poll();
    assert_eq!(notebook.take().iter().filter(|line| line.starts_with("gone ")).count(), 40);
    for _ in 0..5 {
        chat.poll();
    }
    assert_eq!(notebook.take(), Vec::<String>::new());
}

#[test]
fn s1_a_list_that_loses_most_rooms_is_held_until_ten_agree() {
    let (mut chat, notebook) = watched();
    chat.world().simulator.populate(100);
    chat.poll();
    notebook.take();
    chat.world().simulator.faults().push_spec("get_rooms:list=empty:times=9").unwrap();
    for _ in 0..9 {
        chat.poll();
    }
    assert_eq!(notebook.take(), Vec::<String>::new());
    chat.poll();
    assert_eq!(notebook.take(), Vec::<String>::new(), "the rooms were there all the time");
    chat.world().simulator.faults().push_spec("get_rooms:list=empty:times=10").unwrap();
    for _ in 0..10 {
        chat.poll();
    }
    assert_eq!(notebook.take().len(), 100, "ten lists are believed");
    let metrics = chat.world().metrics();
    assert!(
        metrics.contains("imbabot_snapshots_rejected_total{why=\"suspicious\"} 18"),
        "{metrics}"
    );
}

#[test]
fn s2_ten_thousand_rooms_at_the_first_poll_are_no_news() {
    let mut chat = Harness::new().bot("greeter", greeter());
    chat.world().simulator.populate(10_000);
    chat.poll();
    chat.poll();
    assert!(chat.sent().is_empty());
    chat.open_room("New");
    chat.poll();
    assert_eq!(chat.sent(), ["New: Welcome to New!"]);
    chat.world().check();
}

#[test]
fn s2_the_first_list_of_users_and_the_first_after_a_failed_one_are_no_news_either() {
    let (mut chat, notebook) = watched();
    chat.world().simulator.populate(1_000);
    for spec in ["get_rooms:truncate=2000", "get_rooms:status=502", "get_users:body=@html"] {
        chat.world().simulator.faults().push_spec(spec).unwrap();
    }
    for _ in 0..4 {
        chat.poll();
        chat.advance(minutes(1));
    }
    // A kill in the middle of everything changes nothing about it.
    chat.world().crash();
    chat.poll();
    chat.poll();
    assert_eq!(notebook.take(), Vec::<String>::new());
    chat.join("Zoe", 99_999);
    chat.open_room("New");
    chat.poll();
    let told = notebook.take();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&"opened New".into()), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("joined ")), "{told:?}");
}

#[test]
fn s4_a_room_whose_updated_at_never_moves_is_neither_gone_nor_touched() {
    let (mut chat, notebook) = watched();
    chat.world().simulator.configure(|options| options.bump_updated_at_on_send = false);
    let room = chat.open_room("Quiet");
    chat.join("Somebody", 7);
    chat.poll();
    notebook.take();
    for n in 0..100 {
        chat.post(room, 7, &format!("message {n}"));
        chat.advance(hours(1));
        chat.poll();
    }
    assert_eq!(notebook.take(), Vec::<String>::new());
}

#[test]
fn s4_changes_are_seen_where_updated_at_never_moves() {
    let (mut chat, notebook) = watched();
    let room = chat.open_room("Before");
    chat.poll();
    notebook.take();
    // The clock of the server stands still, and so does every `updated_at`.
    let started = chat.world().clock.elapsed();
    for name in ["After", "Later"] {
        chat.advance(minutes(1));
        let stood = (chat.world().clock.elapsed() - started).as_micros();
        let stood = i64::try_from(stood).unwrap();
        chat.world().simulator.configure(|options| options.clock_offset_micros = -stood);
        chat.rename_room(room, name);
        chat.poll();
        assert_eq!(notebook.take(), [format!("renamed {name}")]);
    }
}

/// Writes into its rooms once an hour, and down what it knows of them then.
fn hourly(told: &Notebook) -> impl Bot + use<> {
    let told = told.clone();
    On(move |ctx: &mut Context, event: &Event| {
        let room = match event {
            Event::Timer(timer) => RoomId(timer.key.parse().unwrap()),
            event => match opened(event) {
                Some(room) => room.id,
                None => return,
            },
        };
        told.write(ctx.activity_signal().as_str());
        ctx.send(room, "Another hour.");
        ctx.wake(room.0.to_string(), hours(1));
    })
}

/// What the status says of the lists.
fn activity(chat: &mut Harness) -> (ActivitySignal, u32) {
    let status = chat.world().engine().unwrap().status();
    let known = &status.widgets.values().next().unwrap().capabilities[&Source::Polls];
    (known.activity, known.silent_messages)
}

#[test]
fn s4_bots_are_told_where_updated_at_never_moves_until_it_does() {
    let told = Notebook::default();
    let mut chat = Harness::new()
        .bot("hourly", hourly(&told))
        .with(|settings| settings.poll.rooms = minutes(1));
    chat.world().simulator.configure(|options| options.bump_updated_at_on_send = false);
    chat.poll();
    chat.open_room("Quiet");
    chat.advance(hours(5));
    assert_eq!(
        told.take(),
        ["unknown", "unknown", "unknown", "no_activity_signal", "no_activity_signal"]
    );
    assert_eq!(activity(&mut chat).0, ActivitySignal::Absent);
    chat.world().crash();
    chat.world().start();
    assert_eq!(activity(&mut chat).0, ActivitySignal::Absent, "the store remembers");
    chat.advance(hours(1));
    assert_eq!(told.take(), ["no_activity_signal"]);
    chat.world().simulator.configure(|options| options.bump_updated_at_on_send = true);
    chat.advance(hours(2));
    assert_eq!(told.take(), ["no_activity_signal", "seen"]);
    assert_eq!(activity(&mut chat), (ActivitySignal::Seen, 0));
}

#[test]
fn s4_a_server_whose_rooms_are_touched_or_merely_quiet_is_never_said_to_tell_nothing() {
    // Nobody writes for a week.
    let (mut chat, _) = watched();
    chat.world().settings().poll.rooms = minutes(30);
    chat.world().simulator.populate(30);
    chat.advance(days(7));
    assert_eq!(activity(&mut chat), (ActivitySignal::Unknown, 0));
    // We write, and most lists are bad in one way or another.
    for fault in ["list=empty", "truncate=300", "status=502", "list=half", "list=bad-row"] {
        let told = Notebook::default();
        let mut chat = Harness::new()
            .bot("hourly", hourly(&told))
            .with(|settings| settings.poll.rooms = minutes(2));
        chat.poll();
        chat.open_room("Busy");
        chat.poll();
        chat.world().simulator.faults().push_spec(&format!("get_rooms:{fault}:p=0.7")).unwrap();
        chat.advance(hours(12));
        let told = told.take();
        assert!(
            told.len() > 10 && !told.contains(&"no_activity_signal".into()),
            "{fault} {told:?}"
        );
        assert_eq!(told.last().unwrap(), "seen", "{fault}");
    }
}

#[test]
fn s9_a_room_that_is_deleted_before_its_message_leaves_ends_that_message_only() {
    let told = Notebook::default();
    let mut chat = Harness::new().bot("greeter", greeter()).bot("reporter", reporting(&told));
    let gone = chat.open_room("Gone");
    let stays = chat.open_room("Stays");
    chat.poll();
    assert_eq!(chat.sent().len(), 4);
    told.take();
    chat.advance(minutes(1));
    for room in [gone, stays] {
        chat.post(room, 7, "?");
    }
    // Seen as touched; deleted before the answer of the bot leaves.
    chat.world().simulator.faults().push_spec("get_rooms:late=1s").unwrap();
    chat.poll();
    chat.close_room(gone);
    chat.advance(seconds(5));
    assert_eq!(chat.sent().last().unwrap(), "Stays: I saw that.");
    let dead: Vec<_> =
        chat.deliveries().into_iter().filter(|d| d.state == DeliveryState::Dead).collect();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!((dead[0].room, dead[0].reason.as_deref()), (gone, Some("rejected")));
    let reports = told.take();
    assert!(reports.contains(&"delivery dead rejected".into()), "{reports:?}");
    assert!(reports.contains(&"delivery delivered -".into()), "{reports:?}");
    // The lane of that room and the widget go on.
    assert!(chat.world().engine().unwrap().reasons().is_empty());
    chat.world().simulator.restore_room(i64::try_from(gone.0).unwrap()).unwrap();
    chat.poll();
    chat.advance(minutes(1));
    chat.post(gone, 7, "back again");
    chat.poll();
    chat.advance(seconds(5));
    assert_eq!(chat.sent().last().unwrap(), "Gone: I saw that.");
    assert_quiescent(&mut chat);
}

/// Greets, answers a touch, and writes down what it is told of its messages.
fn reporting(told: &Notebook) -> impl Bot + use<> {
    let told = told.clone();
    On(move |ctx: &mut Context, event: &Event| match event {
        Event::Room(RoomEvent { change: RoomChange::Touched, room, .. }) => {
            ctx.send(room.id, "I saw that.");
        }
        Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => {
            ctx.send(room.id, "Hello.");
        }
        Event::Delivery(_) => told.write(common::words(event)),
        _ => {}
    })
}

#[test]
fn s9_a_sender_who_is_banned_ends_his_messages_only() {
    // As HTTP says it, and as the vendor's plugins do: 200 with the code in the body.
    for in_body in [false, true] {
        let told = Notebook::default();
        let mut chat = Harness::new()
            .bot("greeter", greeter())
            .bot("reporter", reporting(&told))
            .with(|settings| {
                settings.poll.rooms = seconds(5);
                settings.bots[1].sender = Some(7.into());
            });
        chat.world().simulator.configure(|options| options.errors_as_200 = in_body);
        chat.poll();
        for n in 0..10 {
            chat.open_room(&format!("Room {n}"));
        }
        chat.world().simulator.join("Bot", 7);
        chat.world().simulator.set_banned(7, true);
        chat.advance(seconds(30));
        let dead =
            chat.deliveries().iter().filter(|d| d.reason.as_deref() == Some("rejected")).count();
        assert_eq!(dead, 10, "the banned one's");
        assert_eq!(chat.sent().len(), 10, "everybody else's");
        assert_eq!(told.take(), vec!["delivery dead rejected"; 10]);
        assert!(chat.world().engine().unwrap().reasons().is_empty(), "the widget goes on");
        chat.world().simulator.set_banned(7, false);
        chat.open_room("After");
        chat.advance(seconds(30));
        assert_eq!(chat.sent().len(), 12);
        assert_quiescent(&mut chat);
    }
}

#[test]
fn s12_a_room_that_changes_its_nature_brings_each_change_once() {
    let (mut chat, notebook) = watched();
    chat.poll();
    let room = chat.open_room_with(RoomSeed {
        name: "One".into(),
        kind: 1,
        public: false,
        ..RoomSeed::default()
    });
    let id = i64::try_from(room.0).unwrap();
    chat.poll();
    assert_eq!(notebook.take(), ["opened One"]);
    let simulator = chat.world().simulator.clone();
    let expect = |chat: &mut Harness, lines: &[&str]| {
        for _ in 0..3 {
            chat.advance(seconds(10));
            chat.poll();
        }
        let mut told = notebook.take();
        told.sort_unstable();
        assert_eq!(told, lines);
    };
    for kind in [0, 3, 7, 1] {
        simulator.set_room_kind(id, kind).unwrap();
        expect(&mut chat, &["kind_changed One"]);
    }
    simulator.rename_room(id, "Two").unwrap();
    expect(&mut chat, &["renamed Two"]);
    simulator.set_room_status(id, 2).unwrap();
    expect(&mut chat, &["status_changed Two"]);
    simulator.set_room_visibility(id, true).unwrap();
    expect(&mut chat, &["visibility_changed Two"]);
    simulator.set_room_admin(id, 4711).unwrap();
    expect(&mut chat, &["admin_changed Two"]);
    simulator.touch_room(id).unwrap();
    expect(&mut chat, &["touched Two"]);
    simulator.close_room(id, false).unwrap();
    expect(&mut chat, &["gone Two"]);
    simulator.restore_room(id).unwrap();
    expect(&mut chat, &["returned Two"]);
    // All at once between two lists.
    simulator.rename_room(id, "Three").unwrap();
    simulator.set_room_kind(id, 3).unwrap();
    simulator.set_room_status(id, 9).unwrap();
    simulator.set_room_admin(id, 1).unwrap();
    expect(
        &mut chat,
        &["admin_changed Three", "kind_changed Three", "renamed Three", "status_changed Three"],
    );
    // There and back between two lists is nothing but a touch.
    simulator.rename_room(id, "Four").unwrap();
    simulator.rename_room(id, "Three").unwrap();
    expect(&mut chat, &["touched Three"]);
    // Deleted and back between two lists.
    simulator.close_room(id, false).unwrap();
    simulator.restore_room(id).unwrap();
    expect(&mut chat, &["touched Three"]);
}

#[test]
fn s12_changes_come_once_also_when_the_daemon_is_killed_after_every_poll() {
    let (mut chat, notebook) = watched();
    chat.poll();
    let room = chat.open_room("One");
    let id = i64::try_from(room.0).unwrap();
    let mut told = Vec::new();
    let steps: [fn(&imbabot_simulator::Simulator, i64); 5] = [
        |_, _| {},
        |s, id| s.set_room_kind(id, 3).unwrap(),
        |s, id| s.rename_room(id, "Two").unwrap(),
        |s, id| s.close_room(id, false).unwrap(),
        |s, id| s.restore_room(id).unwrap(),
    ];
    for step in steps {
        step(&chat.world().simulator, id);
        for _ in 0..3 {
            chat.poll();
            chat.world().crash();
            chat.world().start();
            chat.advance(seconds(1));
        }
        told.extend(notebook.take());
    }
    assert_eq!(told, ["opened One", "kind_changed One", "renamed Two", "gone Two", "returned Two"]);
}

/// The server's clock is so far from ours, in seconds.
const OFF: [i64; 4] = [-3_600, 3_600, -86_400, 86_400];

fn set_off(chat: &mut Harness, seconds: i64) {
    chat.world().simulator.configure(|options| options.clock_offset_micros = seconds * 1_000_000);
}

#[test]
fn s13_a_server_whose_clock_is_off_moves_no_schedule() {
    for off in OFF {
        let schedule = Schedule::cron("tick", "*/5 * * * *").unwrap();
        let text = Template::announcement("{{ occurrence.at }}").unwrap();
        let rooms = RoomSelector::named("^Team").unwrap();
        let mut chat = Harness::new()
            .announcement(Announcement::new(schedule, rooms, text))
            .with(|settings| settings.poll.rooms = seconds(5));
        set_off(&mut chat, off);
        chat.open_room("Team");
        chat.poll();
        chat.advance(hours(2) + seconds(1));
        let fired = occurrences(&mut chat);
        assert_eq!(fired.len(), 24, "{off} s off");
        for (nominal, recorded, outcome) in fired {
            assert_eq!((recorded, outcome.as_str()), (nominal, "fired"), "{off} s off");
        }
        let posted: Vec<i64> = chat
            .world()
            .simulator
            .log()
            .into_iter()
            .filter(|entry| entry.endpoint == Some(Endpoint::SendMsg))
            .map(|entry| entry.at)
            .collect();
        assert_eq!(posted.len(), 24, "{off} s off");
        assert!(posted.iter().all(|at| at % 300_000_000 == 0), "{off} s off: {posted:?}");
        assert_quiescent(&mut chat);
    }
}

#[test]
fn s13_a_bot_does_not_answer_itself_where_the_servers_clock_is_off() {
    for off in OFF {
        // Confirmed, lost after it was applied, never answered, cut: whoever answers, it was we.
        for fault in
            ["", "send_msg:apply-then-close", "send_msg:apply-then-silent", "send_msg:truncate=9"]
        {
            let mut chat = Harness::new().bot("echo", echo()).with(|settings| {
                settings.poll.rooms = seconds(5);
            });
            set_off(&mut chat, off);
            chat.poll();
            let room = chat.open_room("Support");
            if !fault.is_empty() {
                chat.world().simulator.faults().push_spec(fault).unwrap();
            }
            chat.advance(minutes(10));
            assert_eq!(chat.sent(), ["Support: Hello."], "{off} s off, {fault:?}");
            // What somebody else writes is seen.
            chat.post(room, 7, "hello");
            chat.advance(minutes(10));
            assert_eq!(chat.sent().len(), 2, "{off} s off, {fault:?}");
            chat.world().check();
        }
    }
}

#[test]
fn s13_expiry_and_follow_ups_go_by_our_own_clock() {
    for off in OFF {
        let bot = On(|ctx: &mut Context, event: &Event| {
            if let Some(room) = opened(event) {
                ctx.send(room.id, "later").after(hours(2)).expires_after(minutes(1));
            }
        });
        let mut chat = Harness::new().bot("late", bot);
        set_off(&mut chat, off);
        chat.poll();
        chat.open_room("Support");
        chat.poll();
        chat.advance(hours(2) - Duration::from_millis(1));
        assert!(chat.sent().is_empty());
        chat.advance(Duration::from_millis(1));
        assert_eq!(chat.sent(), ["Support: later"], "{off} s off");
    }
}

/// Answers whatever happens in a room.
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
