//! The answer to a message that was posted, cut at every byte: of the status line, of each header,
//! of the coding, of the body. Whatever is missing, nobody may call it a failure or a success.

use std::ops::Range;

use imbabot_core::{Class, ClassifyRules, OutcomeCode as Code};
use imbabot_simulator::{Clock, Loopback, LoopbackOptions, Options, Simulator};

use crate::rows::{api, send};
use crate::sockets::{Answer, Close, Server, Then, confirmation, settings};

/// The longest answer there may be; it is found out where it ends.
const LIMIT: usize = 2_000;

/// Codes by offset: runs of the same, in order.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    class: Class,
    code: Code,
    offsets: Range<usize>,
}

#[derive(Default)]
struct Runs(Vec<Run>);

impl Runs {
    fn add(&mut self, offset: usize, class: Class, code: Code) {
        match self.0.last_mut() {
            Some(run) if (run.class, run.code) == (class, code) => run.offsets.end = offset + 1,
            _ => self.0.push(Run { class, code, offsets: offset..offset + 1 }),
        }
    }

    fn codes(&self) -> Vec<(Class, Code)> {
        self.0.iter().map(|run| (run.class, run.code)).collect()
    }
}

/// Posts once for each offset, through the simulator, until the answer comes whole.
async fn through_the_simulator(fault: impl Fn(usize) -> String) -> Runs {
    let simulator = Simulator::new(Options::default(), Clock::system());
    let room = simulator.open_room("Team 1");
    let any = ([127, 0, 0, 1], 0).into();
    let door = Loopback::bind(any, simulator.clone(), LoopbackOptions::default()).await.unwrap();
    let api = api(settings(door.addr()), ClassifyRules::default());
    let mut runs = Runs::default();
    for offset in 0..LIMIT {
        simulator.faults().push_spec(&fault(offset)).unwrap();
        let outcome = send(&api, room, &format!("at-{offset}"), 1).await;
        runs.add(offset, outcome.class, outcome.code);
        if outcome.class == Class::Delivered {
            break;
        }
    }
    let log = simulator.log();
    let whole = runs.0.last().unwrap().offsets.start;
    assert_eq!(log.len(), whole + 1, "one request for each offset, and no other");
    assert_eq!(simulator.messages(room).len(), log.len());
    for (offset, entry) in log.iter().enumerate() {
        assert!(entry.complete && entry.applied, "at {offset}: {entry:?}");
        assert_eq!(entry.delivery.as_deref(), Some(format!("at-{offset}").as_str()));
        if offset < whole {
            assert_eq!(entry.outcome, format!("cut after {offset} of {whole} bytes"));
        }
    }
    runs
}

#[tokio::test]
async fn an_answer_with_a_length_that_is_cut_anywhere_is_ambiguous() {
    for close in ["fin", "rst"] {
        let runs = through_the_simulator(|at| format!("send_msg:cut={at}:close={close}")).await;
        let expected = [
            (Class::Ambiguous, Code::ConnectionLost),
            (Class::Ambiguous, Code::ReplyCut),
            (Class::Delivered, Code::Accepted),
        ];
        assert_eq!(runs.codes(), expected, "{close}: {:?}", runs.0);
    }
}

#[tokio::test]
async fn a_chunked_answer_that_is_cut_anywhere_is_ambiguous() {
    let runs = through_the_simulator(|at| format!("send_msg:cut-chunked={at}")).await;
    let expected = [
        (Class::Ambiguous, Code::ConnectionLost),
        (Class::Ambiguous, Code::ReplyCut),
        (Class::Delivered, Code::Accepted),
    ];
    assert_eq!(runs.codes(), expected, "{:?}", runs.0);
}

/// An answer that ends with its connection: only its JSON tells whether it is whole.
#[tokio::test]
async fn an_answer_without_a_length_that_is_cut_anywhere_is_ambiguous() {
    let server = Server::start(|request| {
        let at: usize = request.header("x-imbabot-attempt").unwrap().parse().unwrap();
        let whole = format!("HTTP/1.1 200 OK\r\n\r\n{}\r\n", confirmation(request));
        let bytes = whole.as_bytes()[..at.min(whole.len())].to_vec();
        Answer { bytes, then: Then::Close(Close::Fin) }
    })
    .await;
    let api = api(settings(server.address), ClassifyRules::default());
    let mut runs = Runs::default();
    for offset in 0..200 {
        let outcome = send(&api, 1536, "d", u32::try_from(offset).unwrap()).await;
        runs.add(offset, outcome.class, outcome.code);
    }
    let expected = [
        (Class::Ambiguous, Code::ConnectionLost),
        (Class::Ambiguous, Code::ReplyEmpty),
        (Class::Ambiguous, Code::ReplyNotJson),
        // From its closing brace on: the end of the line behind it means nothing.
        (Class::Delivered, Code::Accepted),
    ];
    assert_eq!(runs.codes(), expected, "{:?}", runs.0);
    let heard = server.heard();
    assert_eq!((heard.requests.len(), heard.bytes.len()), (200, 200));
}
