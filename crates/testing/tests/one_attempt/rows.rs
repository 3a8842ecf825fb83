//! How a row is played and judged.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use imbabot_core::{
    Advice, Api, ApiOptions, Class, ClassifyRules, Credentials, HttpSettings, HttpTransport,
    OutcomeCode, RoomId, SecretKey, SendMsg, SendOutcome,
};
use imbabot_simulator::{
    Canned, Clock, Endpoint, Fault, FaultKind, Loopback, LoopbackOptions, Matcher, Options,
    Simulator,
};

use crate::sockets::{Server, settings, tap};

/// What is posted: with blanks around and something to escape.
pub(crate) const TEXT: &str = " api <message> & \"more\" ";

/// What goes wrong with the first request.
#[derive(Clone, Copy)]
pub(crate) enum Wrong {
    /// A fault in the words of the simulator.
    Fault(&'static str),
    /// An answer with this status and this body.
    Says(u16, &'static str),
}

/// Over which connection the next message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The same one.
    Kept,
    /// A new one: this one is not trusted any more.
    Dropped,
}

/// One line of a table: its name, what goes wrong, and what that means.
#[derive(Clone, Copy)]
pub(crate) struct Row(
    pub(crate) &'static str,
    pub(crate) Wrong,
    pub(crate) Class,
    pub(crate) OutcomeCode,
    pub(crate) Next,
);

/// A server with one room, a tap before it, and the client.
pub(crate) struct Stage {
    pub(crate) simulator: Simulator,
    pub(crate) server: Server,
    pub(crate) api: Api,
    pub(crate) room: i64,
    _door: Loopback,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::with(ClassifyRules::default(), Duration::from_secs(10)).await
    }

    pub(crate) async fn with(rules: ClassifyRules, timeout: Duration) -> Self {
        let simulator = Simulator::new(Options::default(), Clock::system());
        let room = simulator.open_room("Team 1");
        // Somebody has spoken before, so that there is an id to be repeated.
        simulator.post(room, 2, "a message before").unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        let door = Loopback::bind(any, simulator.clone(), LoopbackOptions::default());
        let door = door.await.unwrap();
        let server = tap(door.addr()).await;
        let mut settings = settings(server.address);
        settings.send_timeout = timeout;
        let api = api(settings, rules);
        Self { simulator, server, api, room, _door: door }
    }

    /// Posts `TEXT` as this attempt of this delivery.
    pub(crate) async fn send(&self, delivery: &str, attempt: u32) -> SendOutcome {
        send(&self.api, self.room, delivery, attempt).await
    }

    pub(crate) fn fault(&self, wrong: Wrong) {
        let fault = match wrong {
            Wrong::Fault("") => return,
            Wrong::Fault(spec) => return self.simulator.faults().push_spec(spec).unwrap(),
            Wrong::Says(status, body) => {
                let body = FaultKind::Body(Canned::Bytes(body.as_bytes().into()));
                Fault::new(Matcher::on(Endpoint::SendMsg), FaultKind::Status(status)).and(body)
            }
        };
        self.simulator.faults().push(fault);
    }
}

pub(crate) fn api(settings: HttpSettings, rules: ClassifyRules) -> Api {
    let transport = HttpTransport::new(settings).unwrap();
    let secret = SecretKey::parse("simulator-secret").unwrap();
    let mut options = ApiOptions::default();
    options.rules = rules;
    Api::new(Arc::new(transport), Credentials::new(627.into(), secret)).with_options(options)
}

pub(crate) async fn send(api: &Api, room: i64, delivery: &str, attempt: u32) -> SendOutcome {
    let message = SendMsg::new(1.into(), RoomId(room.unsigned_abs()), TEXT);
    api.send_msg(&message.with_delivery(delivery, attempt)).await
}

/// Plays every row, and fails with the names of those that are not as they say.
pub(crate) async fn check(rows: &[Row]) {
    check_with(rows, &ClassifyRules::default(), Duration::from_secs(10)).await;
}

/// As `check`; where nothing comes, the client waits for this long.
pub(crate) async fn check_with(rows: &[Row], rules: &ClassifyRules, timeout: Duration) {
    let mut wrong = String::new();
    for row in rows {
        for found in play(row, rules, timeout).await {
            writeln!(wrong, "{}: {found}", row.0).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What is not as the row says.
async fn play(row: &Row, rules: &ClassifyRules, timeout: Duration) -> Vec<String> {
    let Row(_, wrong, class, code, next) = *row;
    let stage = Stage::with(rules.clone(), timeout).await;
    stage.fault(wrong);
    let outcome = stage.send("first", 3).await;
    let mut found = Vec::new();
    if (outcome.class, outcome.code) != (class, code) {
        found.push(format!("{outcome:?}"));
    }
    if outcome.receipt.is_some() != (class == Class::Delivered) {
        found.push(format!("a receipt with {class}, or none: {:?}", outcome.receipt));
    }
    // The next one is an ordinary message, and tells over which connection it came.
    let second = stage.send("second", 1).await;
    if (second.class, second.code) != (Class::Delivered, OutcomeCode::Accepted) {
        found.push(format!("the next message: {second:?}"));
    }
    let heard = stage.server.heard();
    let seen: Vec<_> = heard
        .requests
        .iter()
        .map(|request| {
            let header = |name| request.header(name).unwrap_or("none").to_owned();
            (header("X-Imbabot-Delivery"), header("X-Imbabot-Attempt"), request.connection)
        })
        .collect();
    let connection = usize::from(next == Next::Dropped);
    let expected = [("first".into(), "3".into(), 0), ("second".into(), "1".into(), connection)];
    if seen != expected {
        found.push(format!("the server saw {seen:?} and not {expected:?}"));
    }
    let whole: usize = heard.requests.iter().map(|r| r.head.len() + r.body.len()).sum();
    if heard.bytes.iter().sum::<usize>() != whole {
        found.push(format!("{:?} bytes, {whole} of them in requests", heard.bytes));
    }
    found
}

/// What came of one message, with its advice.
pub(crate) async fn outcome(wrong: Wrong, rules: ClassifyRules) -> SendOutcome {
    let stage = Stage::with(rules, Duration::from_secs(10)).await;
    stage.fault(wrong);
    stage.send("d", 1).await
}

pub(crate) async fn advice(wrong: Wrong) -> Advice {
    outcome(wrong, ClassifyRules::default()).await.advice
}
