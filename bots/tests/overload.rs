//! More than a daemon is made for, on a real one: a queue of a hundred thousand, a thousand
//! scrapers at once, and clients that never finish their request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use imbabot_core::{RoomId, Timestamp};
use imbabot_store::{Bodies, Born, NewDelivery, Outbox, Role, SqliteStore};
use imbabot_testing::Check;
use support::{Chat, Daemon, Home, assert_holds, now_micros, wait_until};

/// The most that a process had in memory, in MiB.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

/// Its sockets.
fn sockets(daemon: &Daemon) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Queues so many messages, as a daemon that ran before might have left them.
fn queue(home: &Home, rooms: &[i64], count: usize) {
    let store = SqliteStore::open(&home.path("imbabot.db"), Role::Daemon, Bodies::Full).unwrap();
    let now = Timestamp::from_micros(now_micros());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let deliveries: Vec<NewDelivery> = (0..count)
        .map(|n| NewDelivery {
            key: format!("test/{n}"),
            widget: "main".parse().unwrap(),
            room: RoomId(rooms[n % rooms.len()].unsigned_abs()),
            sender: 1.into(),
            bot: None,
            event: None,
            occurrence: None,
            schedule: None,
            policy: imbabot_bot::Policy::AtMostOnce,
            text: format!("message {n}: as people write them, some words long"),
            not_before: None,
            expires_at: now + Duration::from_secs(86_400),
            born: Born::Queued,
            detail: None,
            report: false,
        })
        .collect();
    for batch in deliveries.chunks(5_000) {
        runtime.block_on(store.enqueue(now, batch.to_vec())).unwrap();
    }
}

/// A daemon with so many messages waiting: what it takes, how fast and in which order it sends.
fn drains(count: usize, rate: usize, length: Duration) {
    let chat = Chat::open();
    chat.populate(1_000);
    let rooms: Vec<i64> = chat.rooms().iter().map(|room| room.id).collect();
    let home = Home::at(
        &chat,
        &format!(
            "[delivery]\nrate = \"{rate}/s\"\nrate_per_room = \"1000/s\"\n[poll]\nrooms = \"5s\"\n"
        ),
    );
    let begun = Instant::now();
    queue(&home, &rooms, count);
    println!("{count} queued in {:?}", begun.elapsed());
    let daemon = home.ready();
    println!("{count} waiting: ready after {:?}", daemon.age());
    let begun = Instant::now();
    while begun.elapsed() < length && chat.asked("send_msg").len() < count {
        std::thread::sleep(Duration::from_millis(100));
    }
    let most = peak(&daemon);
    daemon.stop();
    let sent = chat.asked("send_msg");
    println!("{} sent in {:?}, {most} MiB at most", sent.len(), begun.elapsed());
    assert!(most <= 128, "{most} MiB");
    let possible = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
    assert!(sent.len() >= (possible / 2).min(count), "{} of {possible} possible", sent.len());
    let mut of_room: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for entry in &sent {
        let text = entry.text.clone().unwrap();
        let n = text.strip_prefix("message ").unwrap().split(':').next().unwrap().parse().unwrap();
        of_room.entry(entry.room.unwrap()).or_default().push(n);
    }
    assert!(of_room.values().all(|numbers| numbers.is_sorted()), "in order");
    let rate = format!("{rate}/s").parse().unwrap();
    if sent.len() == count {
        assert_holds(&home.check(&chat).rate(rate).quiescent());
    } else {
        // A ledger of this length is read in the longer test.
        let found = Check::new().requests(chat.seen()).rate(rate).run();
        assert!(found.iter().all(|violation| violation.invariant != 8), "{found:?}");
    }
}

#[test]
fn o2_a_hundred_thousand_queued_messages_take_no_memory_and_leave_at_the_cap() {
    drains(100_000, 100, Duration::from_secs(5));
}

#[test]
#[ignore = "takes minutes: all of them"]
fn o2_a_hundred_thousand_queued_messages_are_all_sent() {
    drains(100_000, 1_000, Duration::from_secs(600));
}

/// How long a message takes from the command line to the chat, beside the daemon; the most of some.
fn longest_send(home: &Home, room: &str) -> Duration {
    (0..5)
        .map(|n| {
            let begun = Instant::now();
            home.imbabot(&["send", "--room", room, "--wait", "20s", &format!("number {n}")])
                .expect(0);
            begun.elapsed()
        })
        .max()
        .unwrap()
}

/// A client that asks for this and waits.
fn client(home: &Home, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(home.http().0).unwrap();
    stream.write_all(words.as_bytes()).unwrap();
    stream
}

#[test]
fn o5_a_thousand_scrapers_at_once_are_served_by_few_connections_and_delay_no_message() {
    let chat = Chat::open();
    let room = chat.open_room("Team").to_string();
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    let usual = longest_send(&home, &room);
    let idle = sockets(&daemon);
    let host = home.http().0;
    let asks = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
    // Some hundreds of descriptors are what a process has by default: in threes.
    let mut most = 0;
    let mut answered = 0;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| longest_send(&home, &room));
        for _ in 0..3 {
            let clients: Vec<TcpStream> = (0..334).map(|_| client(&home, &asks)).collect();
            for mut client in clients {
                most = most.max(sockets(&daemon).saturating_sub(idle));
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.100}");
                assert!(answer.contains("imbabot_build_info"));
                answered += 1;
            }
        }
        let beside = sender.join().unwrap();
        println!("sends took {usual:?} before and {beside:?} beside {answered} scrapers");
        assert!(beside < usual + Duration::from_secs(2), "{beside:?}, {usual:?} without");
    });
    println!("{answered} answers in {:?}, {most} more sockets at most", begun.elapsed());
    // What messages and lists need is in it too.
    assert!(most <= 64 + 12, "{most} sockets more than before");
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn o5_clients_that_never_finish_their_request_are_closed_after_five_seconds() {
    let chat = Chat::open();
    let room = chat.open_room("Team").to_string();
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    let usual = longest_send(&home, &room);
    let idle = sockets(&daemon);
    let host = home.http().0;
    let begun = Instant::now();
    // Nothing, a half line, a header that grows, and one that asks and does not read.
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|n| match n % 3 {
            0 => client(&home, ""),
            1 => client(&home, "GET /met"),
            _ => client(&home, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nX-Slow: ")),
        })
        .collect();
    let beside = longest_send(&home, &room);
    println!("sends took {usual:?} before and {beside:?} beside {} slow clients", slow.len());
    assert!(beside < usual + Duration::from_secs(2), "{beside:?}, {usual:?} without");
    let most = sockets(&daemon).saturating_sub(idle);
    println!("{most} sockets more than before");
    assert!(most <= 64 + 12, "{most} sockets more than before");
    // The trickle goes on: what counts is when the head is whole.
    while begun.elapsed() < Duration::from_secs(4) {
        for client in &mut slow {
            let _ = client.write_all(b"x");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    // The first 64 go after five seconds, the rest after five more; then probes are answered.
    wait_until("probes are answered", || home.http().is_ready());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    for client in &mut slow {
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        // Closed, with or without a word about it.
        let _ = client.read_to_end(&mut rest);
    }
    println!("all are closed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    wait_until("no socket is left", || sockets(&daemon) <= idle + 12);
    daemon.stop();
}
