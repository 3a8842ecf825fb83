//! What `why` tells of things that really happened, in virtual time.

use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_bot::{DeliveryId, RoomSelector, Schedule, Template, WidgetName};
use imbabot_core::Timestamp;
use imbabot_scheduler::{Announcement, Clock, Rate};
use imbabot_store::{
    BreakerChange, CancelFilter, DeliveryState, PauseScope, Resolution, Stop, Store,
};
use imbabot_testing::Harness;
use insta::assert_snapshot;

use super::{Calendar, Decision, Reason, delivery, length, occurrence};

/// Greets a room, and says goodbye right after.
struct Greeter;

#[async_trait]
impl Bot for Greeter {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
            for text in ["Welcome", "How are you?", "What can I do for you?"] {
                ctx.send(room.id, text);
            }
        }
        Ok(())
    }
}

/// The same, but it insists.
struct Insisting;

#[async_trait]
impl Bot for Insisting {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
            ctx.send(room.id, "Important").policy(Policy::AtLeastOnce);
        }
        Ok(())
    }
}

fn standup() -> Announcement {
    let schedule =
        Schedule::cron("standup", "0 9 * * MON-FRI").unwrap().timezone("Europe/Berlin").unwrap();
    let text = Template::announcement("Good morning!").unwrap();
    Announcement::new(schedule, RoomSelector::named("^Team").unwrap(), text)
}

/// One message a second to a room.
fn slowly(settings: &mut imbabot_scheduler::Settings) {
    settings.delivery.rate_per_room = Rate::new(1, Duration::from_secs(4));
}

fn store(chat: &mut Harness) -> std::sync::Arc<dyn Store> {
    chat.world().store()
}

fn chain(chat: &mut Harness, id: DeliveryId) -> Vec<Decision> {
    let story = block_on(store(chat).delivery_story(id)).unwrap().unwrap();
    let running = chat.world().engine().is_some();
    let now = chat.world().clock.now();
    let chain = delivery(&story, now, running);
    one_end(story.record.state, &chain);
    chain
}

/// The chain as a person reads it, without the ids that differ from run to run.
fn why(chat: &mut Harness, place: usize) -> String {
    let id = chat.deliveries()[place].id;
    told(&chain(chat, id))
}

fn told(chain: &[Decision]) -> String {
    let lines = chain.iter().map(|decision| {
        let seq = if decision.seq.is_some() { "recorded" } else { "between" };
        format!(
            "{} {} | {} | {seq}",
            decision.at.compact(),
            decision.reason.as_str(),
            decision.text
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn why_occurrence(chat: &mut Harness, at: &str) -> Vec<Decision> {
    let at: Timestamp = at.parse().unwrap();
    let id = format!("standup@{}", at.compact());
    let story = block_on(store(chat).occurrence_story(&id, "standup", at)).unwrap();
    let announcement = standup();
    let schedule = Some(&announcement.schedule);
    let calendar = Calendar { id: &id, key: "standup", at, schedule };
    let running = chat.world().engine().is_some();
    occurrence(&calendar, &story, chat.world().clock.now(), running)
}

/// A delivery that has come to its end says so once, as the last thing.
fn one_end(state: DeliveryState, chain: &[Decision]) {
    let ends = |reason: Reason| {
        let dead = ["rejected", "expired", "unresolved", "suppressed", "invalid", "cancelled"];
        reason == Reason::DELIVERED || reason == Reason::OPERATOR || dead.contains(&reason.as_str())
    };
    let last = chain.last().unwrap().reason;
    assert_eq!(
        ends(last),
        matches!(state, DeliveryState::Delivered | DeliveryState::Dead),
        "{last:?}"
    );
    let retried = chain.iter().any(|decision| decision.reason == Reason::OPERATOR_RETRY);
    if !retried {
        let count = chain.iter().filter(|decision| ends(decision.reason)).count();
        assert_eq!(count, usize::from(ends(last)), "{}", told(chain));
    }
}

#[test]
fn a_message_that_waited_for_the_rate_and_was_never_answered_until_a_person_looked() {
    let mut chat = Harness::new().bot("greeter", Greeter).with(slowly);
    chat.open_room("Support");
    chat.world().simulator.faults().push_spec("send_msg:apply-then-silent:nth=2").unwrap();
    chat.poll();
    chat.advance(seconds(60));
    let id = chat.deliveries()[1].id;
    let now = chat.world().clock.now();
    block_on(store(&mut chat).resolve(now, id, Resolution::Delivered)).unwrap();
    assert_snapshot!(why(&mut chat, 1));
}

/// A room opened, and no connection came about any more.
fn greeted_as_the_server_went_away() -> Harness {
    let mut chat = Harness::new().bot("greeter", Greeter).with(|settings| {
        settings.poll.rooms = seconds(5);
        settings.delivery.backoff = (seconds(1), seconds(1));
    });
    chat.open_room("Support");
    chat.world().simulator.faults().push_spec("send_msg:refuse:times=3").unwrap();
    chat.poll();
    chat.world().simulator.server_down(true);
    chat
}

#[test]
fn a_message_that_waited_for_the_end_of_an_outage() {
    let mut chat = greeted_as_the_server_went_away();
    chat.advance(minutes(10));
    chat.world().simulator.server_down(false);
    chat.advance(minutes(1));
    assert_snapshot!(why(&mut chat, 0));
}

#[test]
fn a_message_that_expired_while_the_server_was_away() {
    let mut chat = greeted_as_the_server_went_away();
    chat.advance(hours(2));
    assert_snapshot!(why(&mut chat, 1));
}

#[test]
fn a_message_that_a_limit_held_back() {
    let mut chat =
        Harness::new().bot("greeter", Greeter).with(|settings| settings.limits.per_event = 2);
    chat.open_room("Support");
    chat.poll();
    assert_snapshot!(why(&mut chat, 2));
}

#[test]
fn a_message_on_which_the_process_died() {
    let mut chat = Harness::new().bot("greeter", Greeter);
    chat.open_room("Support");
    chat.world().simulator.faults().push_spec("send_msg:apply-then-silent").unwrap();
    chat.poll();
    chat.advance(seconds(3));
    chat.world().crash();
    chat.advance(minutes(5));
    assert_snapshot!(why(&mut chat, 0));
    chat.advance(hours(25));
    assert_snapshot!(why(&mut chat, 0));
}

#[test]
fn a_message_that_was_repeated() {
    let mut chat = Harness::new().bot("insisting", Insisting);
    chat.open_room("Support");
    chat.world().simulator.faults().push_spec("send_msg:apply-then-close").unwrap();
    chat.poll();
    chat.advance(minutes(5));
    assert_snapshot!(why(&mut chat, 0));
}

#[test]
fn a_message_that_waits_now_says_for_what() {
    let mut chat = Harness::new().bot("greeter", Greeter).with(slowly);
    chat.open_room("Support");
    let main = PauseScope::Widget("main".parse().unwrap());
    let now = chat.world().clock.now();
    block_on(store(&mut chat).pause(now, &main, true)).unwrap();
    chat.poll();
    chat.advance(seconds(90));
    let first = chat.deliveries()[0].id.to_string();
    assert_snapshot!(why(&mut chat, 1).replace(&first, "<the first>"));
    let now = chat.world().clock.now();
    block_on(store(&mut chat).pause(now, &main, false)).unwrap();
    chat.world().crash();
    chat.world().clock.advance(seconds(30));
    assert_snapshot!(why(&mut chat, 0));
}

#[test]
fn a_message_that_was_refused_sent_again_by_a_person_and_taken_back() {
    let mut chat = Harness::new().bot("greeter", Greeter).with(slowly);
    chat.open_room("Support");
    chat.world().simulator.faults().push_spec("send_msg:code=422").unwrap();
    chat.poll();
    let id = chat.deliveries()[0].id;
    let now = chat.world().clock.now();
    block_on(store(&mut chat).retry(now, id, false)).unwrap();
    block_on(store(&mut chat).cancel(now, &CancelFilter::Ids(vec![id]))).unwrap();
    assert_snapshot!(why(&mut chat, 0));
}

#[test]
fn an_occurrence_that_fired() {
    let mut chat = Harness::new().at("2026-03-30T06:00:00Z").announcement(standup());
    chat.open_room("Team Blue");
    chat.open_room("Team Red");
    chat.world().simulator.faults().push_spec("send_msg:apply-then-close:nth=2").unwrap();
    chat.poll();
    chat.advance(hours(2));
    let unknown = chat.deliveries()[1].id.to_string();
    let chain = told(&why_occurrence(&mut chat, "2026-03-30T07:00:00Z"));
    assert_snapshot!(chain.replace(&unknown, "<the second>"));
}

#[test]
fn occurrences_that_nobody_was_there_for() {
    let mut chat = Harness::new().at("2026-03-26T12:00:00Z").announcement(standup());
    chat.open_room("Team Blue");
    chat.poll();
    chat.world().crash();
    chat.world().clock.advance(days(5));
    chat.world().start();
    chat.advance(seconds(5));
    for (at, reason) in [
        ("2026-03-27T08:00:00Z", "expired"),
        ("2026-03-27T09:00:00Z", "no_instant"),
        ("2026-03-25T08:00:00Z", "no_record"),
        ("2026-12-24T08:00:00Z", "not_due"),
    ] {
        let chain = why_occurrence(&mut chat, at);
        assert_eq!(chain.last().unwrap().reason.as_str(), reason, "{at}");
    }
    assert_snapshot!(told(&why_occurrence(&mut chat, "2026-03-27T08:00:00Z")));
    assert_snapshot!(told(&why_occurrence(&mut chat, "2026-03-29T08:00:00Z")));
}

#[test]
fn everything_that_holds_a_message_is_told_also_what_lasts_equally_long() {
    let mut chat = Harness::new().bot("greeter", Greeter);
    chat.poll();
    let now = chat.world().clock.now();
    let widget: WidgetName = "main".parse().unwrap();
    let outage = BreakerChange {
        widget: widget.clone(),
        reason: Stop::Outage,
        at: now,
        open: true,
        detail: None,
    };
    block_on(store(&mut chat).note_breakers(vec![outage])).unwrap();
    block_on(store(&mut chat).pause(now, &PauseScope::Widget(widget), true)).unwrap();
    chat.open_room("Support");
    chat.poll();
    chat.advance(seconds(30));
    let id = chat.deliveries()[0].id;
    let chain = chain(&mut chat, id);
    for reason in [Reason::HELD_OUTAGE, Reason::HELD_PAUSED] {
        assert!(chain.iter().any(|told| told.reason == reason), "{}", told(&chain));
    }
}

#[test]
fn an_instant_of_a_schedule_that_was_removed_is_not_still_to_come() {
    let mut chat = Harness::new().at("2026-03-26T12:00:00Z").announcement(standup());
    chat.open_room("Team Blue");
    chat.poll();
    chat.world().settings().announcements.clear();
    chat.world().reload();
    chat.advance(seconds(5));
    let at: Timestamp = "2026-03-27T08:00:00Z".parse().unwrap();
    let id = format!("standup@{}", at.compact());
    let story = block_on(store(&mut chat).occurrence_story(&id, "standup", at)).unwrap();
    let calendar = Calendar { id: &id, key: "standup", at, schedule: None };
    for running in [true, false] {
        for now in [chat.world().clock.now(), at + days(1)] {
            let chain = occurrence(&calendar, &story, now, running);
            assert_eq!(chain.last().unwrap().reason, Reason::NO_RECORD, "{}", told(&chain));
        }
    }
}

#[test]
fn lengths_are_said_as_people_say_them() {
    let said = |millis| length(Duration::from_millis(millis));
    assert_eq!(said(40), "40ms");
    assert_eq!(said(4_040), "4s");
    assert_eq!(said(4_150), "4.1s");
    assert_eq!(said(40_900), "40s");
    assert_eq!(said(3_700_000), "1h1m40s");
}
