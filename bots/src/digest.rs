//! Once a day, tells one room how many rooms were opened and how many users joined.

use imbabot::prelude::*;

/// Its settings: `{ room = 1536, cron = "0 18 * * *", timezone = "Europe/Berlin" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, try_from = "Settings")]
pub(crate) struct Digest {
    room: RoomId,
    schedule: Schedule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    room: RoomId,
    cron: Option<String>,
    timezone: Option<String>,
}

impl TryFrom<Settings> for Digest {
    type Error = String;
    fn try_from(settings: Settings) -> Result<Self, String> {
        let cron = settings.cron.as_deref().unwrap_or("0 18 * * *");
        let zone = settings.timezone.as_deref().unwrap_or("UTC");
        let schedule = Schedule::cron("summary", cron).and_then(|daily| daily.timezone(zone));
        Ok(Self { room: settings.room, schedule: schedule.map_err(|e| e.to_string())? })
    }
}

#[async_trait]
impl Bot for Digest {
    fn listens(&self) -> Listen {
        Listen::ROOMS | Listen::USERS
    }

    fn schedules(&self) -> Vec<Schedule> {
        vec![self.schedule.clone()]
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let mut rooms: u64 = ctx.memory().get("rooms").await?.unwrap_or(0);
        let mut users: u64 = ctx.memory().get("users").await?.unwrap_or(0);
        match event {
            Event::Room(event) if event.change == RoomChange::Opened => rooms += 1,
            Event::User(event) if event.change == UserChange::Joined => users += 1,
            Event::Timer(_) => {
                if rooms + users > 0 {
                    ctx.send(self.room, format!("New today: {rooms} rooms, {users} users."));
                }
                (rooms, users) = (0, 0);
            }
            _ => return Ok(()),
        }
        ctx.memory().set("rooms", &rooms)?;
        ctx.memory().set("users", &users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imbabot::testing::Harness;

    fn digest(chat: Harness) -> Harness {
        let settings = r#"{"room": 1536, "cron": "0 18 * * *"}"#;
        chat.bot("digest", serde_json::from_str::<Digest>(settings).unwrap())
    }

    #[test]
    fn a_day_is_summed_up_in_the_evening() {
        let mut chat = digest(Harness::new());
        chat.open_room("Lobby");
        chat.poll();
        chat.open_room("Support");
        chat.join("Ada", 7);
        chat.poll();
        chat.advance_to("2026-03-02T18:00:00Z");
        assert_eq!(chat.last_sent(), "Lobby: New today: 2 rooms, 1 users.");
        chat.world().check();
    }

    #[test]
    fn it_remembers_over_a_kill_and_says_nothing_on_a_quiet_day() {
        let mut chat = digest(Harness::new());
        chat.open_room("Lobby");
        chat.poll();
        chat.world().crash();
        chat.advance(hours(9));
        chat.advance(hours(48));
        assert_eq!(chat.sent(), ["Lobby: New today: 1 rooms, 0 users."]);
        chat.world().check();
    }
}
