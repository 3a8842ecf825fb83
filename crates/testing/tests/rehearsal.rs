//! A rehearsal is the plan come true: what is planned is what it says, and people, bots and several
//! widgets are in it as in the daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "common/announcements.rs"]
mod announcements;
#[path = "../src/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use announcements::announcement;
use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_bot::{RoomSelector, Schedule, Template, WidgetName};
use imbabot_core::{Api, Room as Listed, Timestamp};
use imbabot_scheduler::{Announcement, Ask, BotSettings, Settings, WidgetSettings, plan};
use imbabot_store::DeliveryState;
use imbabot_testing::transcript::What;
use imbabot_testing::{Harness, Rehearsal, Rehearsed, Rooms, Wanted};
use random::Random;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn listed(names: &[&str]) -> Vec<Listed> {
    let rooms = (1536_u64..).zip(names);
    rooms.map(|(id, name)| Listed::new(id.into(), *name)).collect()
}

/// Lives through it, with these rooms in each of these widgets.
fn rehearse(wanted: Wanted, widgets: &[(&str, u64, Rooms)], mut settings: Settings) -> Rehearsed {
    let mut rehearsal = Rehearsal::new(wanted);
    settings.widgets = widgets
        .iter()
        .map(|(name, number, rooms)| {
            let name: WidgetName = name.parse().unwrap();
            let site = rehearsal.site(&name, (*number).into(), rooms.clone()).unwrap();
            WidgetSettings {
                name,
                api: Api::new(site.0, site.1),
                sender: 1.into(),
                rooms_by_jwt: false,
                markup: imbabot_bot::ForeignMarkup::Neutralize,
            }
        })
        .collect();
    rehearsal.run(settings).unwrap()
}

fn main_only(names: &[&str]) -> [(&'static str, u64, Rooms); 1] {
    [("main", 627, Rooms::Listed(listed(names)))]
}

fn days_from(from: &str, count: u64, seed: Option<u64>) -> Wanted {
    Wanted { from: at(from), until: at(from) + days(count), seed }
}

/// By its id: the occurrence, the room, the text.
type Messages = BTreeMap<String, (String, u64, String)>;

fn posted(rehearsed: &Rehearsed) -> Messages {
    let mut found = Messages::new();
    for entry in rehearsed.transcript.entries() {
        if let What::Message(message) = &entry.what
            && let Some(occurrence) = &message.occurrence
        {
            assert_eq!(message.state, DeliveryState::Delivered, "{entry}");
            let what = (occurrence.clone(), entry.room.unwrap().0, message.text.clone());
            assert_eq!(found.insert(message.delivery.to_string(), what), None);
        }
    }
    found
}

#[test]
fn what_is_planned_is_what_a_rehearsal_says_room_by_room() {
    let mut messages = 0;
    for seed in 0..12 {
        let mut random = Random(seed);
        let start =
            random.pick(&["2026-03-07", "2026-03-22", "2026-03-30", "2026-10-01", "2026-10-20"]);
        // On the hour, too: what is due at the first and at the last instant belongs to both.
        let start = format!("{start}T{:02}:00:00Z", random.below(24));
        let mut chat = Harness::new().at(&start);
        for name in ["Team Blue", "Team Red", "Sales", "Support"] {
            chat.open_room(name);
        }
        chat.poll();
        let mut settings = chat.world().settings().clone();
        for n in 0..4 {
            settings.announcements.push(Arc::new(announcement(&mut random, &format!("s{n}"))));
        }
        let wanted = days_from(&start, 14, None);
        let ask = Ask {
            now: wanted.from,
            from: wanted.from,
            until: wanted.until,
            count: usize::MAX,
            only: None,
        };
        let store = chat.world().store();
        let planned = block_on(plan(&*store, &settings, &ask)).unwrap();
        let plan: Messages = planned
            .iter()
            .flat_map(|one| {
                one.messages.iter().map(|message| {
                    let what = (one.occurrence.clone(), message.room.0, message.text.clone());
                    (message.delivery.to_string(), what)
                })
            })
            .collect();
        let rooms = block_on(store.rooms_after(&"main".parse().unwrap(), None, 100)).unwrap();
        let rehearsed = rehearse(wanted, &[("main", 627, Rooms::Listed(rooms))], settings);
        assert_eq!(plan, posted(&rehearsed), "seed {seed}");
        let occurrences: BTreeSet<&str> = planned.iter().map(|one| &*one.occurrence).collect();
        let lived: BTreeSet<&str> = rehearsed.occurrences.iter().map(|one| &*one.id).collect();
        assert_eq!(occurrences, lived, "seed {seed}");
        messages += plan.len();
    }
    assert!(messages > 500, "{messages}");
}

/// Welcomes rooms, and says whether it is rehearsing.
struct Host;

#[async_trait]
impl Bot for Host {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        match event {
            Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => {
                let text = format!("{} ({})", room.name, ctx.rehearsing());
                ctx.send(room.id, text);
                ctx.wake(format!("{}", room.id), hours(1));
            }
            Event::Timer(_) => return Err(std::io::Error::other("no timers, please").into()),
            _ => {}
        }
        Ok(())
    }
}

fn host() -> Settings {
    let mut settings = Settings::new();
    settings.bots.push(BotSettings::new("host".parse().unwrap(), Arc::new(Host)));
    settings
}

#[test]
fn with_a_seed_people_come_and_bots_answer_them_and_failures_are_told() {
    let wanted = days_from("2026-03-02T00:00:00Z", 7, Some(7));
    let rehearsed = rehearse(wanted, &main_only(&["Team Blue"]), host());
    let told = rehearsed.transcript.to_string();
    let opened = told.matches("somebody opens").count();
    assert!(opened > 5, "{told}");
    assert_eq!(told.matches("(true)").count(), opened, "each is welcomed, and it is a rehearsal");
    assert!(told.contains("somebody closes") && told.contains("somebody renames"), "{told}");
    assert!(!told.contains("Team Blue"), "nobody touches a room that was there before");
    assert!(rehearsed.failures.len() >= opened, "{:?}", rehearsed.failures);
    let again = rehearse(wanted, &main_only(&["Team Blue"]), host());
    assert_eq!(told, again.transcript.to_string());
    let other = Wanted { seed: Some(8), ..wanted };
    let other = rehearse(other, &main_only(&["Team Blue"]), host());
    assert_ne!(told, other.transcript.to_string());
}

#[test]
fn without_a_seed_nobody_comes_and_the_first_list_is_no_news() {
    let wanted = days_from("2026-03-02T00:00:00Z", 7, None);
    let rehearsed = rehearse(wanted, &main_only(&["Team Blue"]), host());
    assert!(rehearsed.transcript.is_empty(), "{}", rehearsed.transcript);
    let mut settings = host();
    settings.poll.baseline = false;
    let rehearsed = rehearse(wanted, &main_only(&["Team Blue"]), settings);
    assert!(rehearsed.transcript.to_string().contains("Team Blue (true)"));
}

#[test]
fn every_widget_has_a_site_of_its_own() {
    let mut settings = Settings::new();
    let schedule = Schedule::cron("daily", "0 9 * * *").unwrap();
    let text = Template::announcement("Good morning, {{ room.name }}!").unwrap();
    settings.announcements.push(Arc::new(Announcement::new(schedule, RoomSelector::all(), text)));
    let widgets = [
        ("other", 2, Rooms::Listed(listed(&["Blue"]))),
        ("main", 1, Rooms::MadeUp(0, BTreeSet::from([77.into()]))),
    ];
    let wanted = days_from("2026-03-02T00:00:00Z", 1, None);
    let rehearsed = rehearse(wanted, &widgets, settings);
    let told: Vec<String> = rehearsed
        .transcript
        .entries()
        .iter()
        .map(|entry| format!("{} {}", entry.widget.as_ref().unwrap(), entry.words(true)))
        .collect();
    assert_eq!(
        told,
        [
            "other daily posts in \"Blue\": Good morning, Blue!",
            "main daily posts in \"Room 77\": Good morning, Room 77!"
        ]
    );
}

#[test]
fn what_two_sites_answer_in_rooms_of_one_number_is_never_mistaken_for_each_other() {
    let mut settings = Settings::new();
    let schedule = Schedule::cron("hourly", "0 * * * *").unwrap();
    let text = Template::announcement("tick").unwrap();
    settings.announcements.push(Arc::new(Announcement::new(schedule, RoomSelector::all(), text)));
    let widgets = [
        ("alpha", 1, Rooms::Listed(listed(&["Blue", "Red"]))),
        ("beta", 2, Rooms::Listed(listed(&["Blue", "Red"]))),
    ];
    for seed in [None, Some(7)] {
        let wanted = days_from("2026-03-02T00:30:00Z", 1, seed);
        let rehearsed = rehearse(wanted, &widgets, settings.clone());
        assert!(posted(&rehearsed).len() >= 96, "{}", rehearsed.transcript);
    }
}

#[test]
fn people_find_a_number_for_their_room_though_the_last_one_is_taken() {
    let last = Listed::new((u64::MAX / 2).into(), "Last");
    let wanted = days_from("2026-03-02T00:00:00Z", 2, Some(7));
    let rehearsed = rehearse(wanted, &[("main", 627, Rooms::Listed(vec![last]))], host());
    assert!(rehearsed.transcript.to_string().contains("(true)"), "{}", rehearsed.transcript);
}

#[test]
fn what_the_rates_hold_back_at_the_end_is_waited_for_and_what_comes_later_is_not_in_it() {
    let mut settings = Settings::new();
    settings.delivery.rate = imbabot_scheduler::Rate::new(1, minutes(1));
    let schedule = Schedule::cron("hourly", "0 * * * *").unwrap();
    let text = Template::announcement("tick").unwrap();
    settings.announcements.push(Arc::new(Announcement::new(schedule, RoomSelector::all(), text)));
    let names: Vec<String> = (0..30).map(|n| format!("Room {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let from = at("2026-03-02T08:30:00Z");
    let wanted = Wanted { from, until: from + minutes(30), seed: None };
    let rehearsed = rehearse(wanted, &main_only(&names), settings);
    assert_eq!(posted(&rehearsed).len(), 30);
    assert!(rehearsed.waiting.is_empty());
    assert_eq!(rehearsed.occurrences.len(), 1);
}

#[test]
fn a_list_is_asked_for_only_where_it_may_have_changed() {
    let mut settings = Settings::new();
    let schedule = Schedule::cron("weekly", "0 9 * * MON").unwrap();
    let text = Template::announcement("Monday").unwrap();
    settings.announcements.push(Arc::new(Announcement::new(schedule, RoomSelector::all(), text)));
    let wanted = days_from("2026-01-01T00:00:00Z", 365, None);
    let rehearsed = rehearse(wanted, &main_only(&["Team Blue"]), settings);
    assert_eq!(posted(&rehearsed).len(), 52);
    // The first one, and one after each message, which moves the room's `updated_at`.
    assert_eq!(rehearsed.polls, 53);
}

#[test]
fn a_list_that_is_polled_seldom_is_fresh_when_an_announcement_chooses_from_it() {
    let mut settings = Settings::new();
    settings.poll.rooms = hours(24);
    let schedule = Schedule::cron("hourly", "0 * * * *").unwrap();
    let text = Template::announcement("{{ room.name }}").unwrap();
    let tables = RoomSelector::named("table|Question|friends").unwrap();
    settings.announcements.push(Arc::new(Announcement::new(schedule, tables, text)));
    let wanted = days_from("2026-03-02T00:00:00Z", 1, Some(3));
    let rehearsed = rehearse(wanted, &main_only(&["Team Blue"]), settings);
    let entries = rehearsed.transcript.entries();
    let opens = entries.iter().position(|entry| entry.words(true).contains("opens")).unwrap();
    let posts = entries.iter().position(|entry| matches!(entry.what, What::Message(_))).unwrap();
    let waited = entries[posts].at.since(entries[opens].at);
    assert!(waited <= hours(1), "{}", rehearsed.transcript);
}
