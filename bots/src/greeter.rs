//! Welcomes rooms that open; if it is asked to, it looks in again after a while.

use imbabot::prelude::*;

/// Its settings: `{ greeting = "Welcome to {{ room.name }}!", follow_up = "…", after = "24h" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Greeter {
    greeting: Template,
    #[serde(default)]
    follow_up: Option<Template>,
    #[serde(default = "a_day")]
    after: Span,
}

fn a_day() -> Span {
    hours(24).into()
}

#[async_trait]
impl Bot for Greeter {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let Event::Room(event) = event else { return Ok(()) };
        // A key of our own, so that the follow-up can be taken back.
        let follow_up_key = format!("follow-up/{}/{}", ctx.widget(), event.room.id);
        match event.change {
            RoomChange::Opened => {
                ctx.send(event.room.id, self.greeting.render(&event.room)?);
                if let Some(follow_up) = &self.follow_up {
                    ctx.send(event.room.id, follow_up.render(&event.room)?)
                        .after(self.after.get())
                        .key(follow_up_key);
                }
            }
            RoomChange::Gone => ctx.cancel(follow_up_key),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imbabot::testing::Harness;

    fn greeter(settings: &str) -> Harness {
        Harness::new().bot("greeter", serde_json::from_str::<Greeter>(settings).unwrap())
    }

    #[test]
    fn a_new_room_is_welcomed_by_name_and_once() {
        let mut chat = greeter(r#"{"greeting": "Welcome to {{ room.name }}!"}"#);
        let room = chat.open_room("Support");
        chat.poll();
        chat.rename_room(room, "Help desk");
        chat.poll();
        chat.advance(hours(48));
        assert_eq!(chat.sent(), ["Help desk: Welcome to Support!"]);
        chat.world().check();
    }

    #[test]
    fn it_looks_in_again_unless_the_room_is_gone() {
        let mut chat =
            greeter(r#"{"greeting": "Welcome!", "follow_up": "Still here?", "after": "24h"}"#);
        chat.open_room("Stays");
        let gone = chat.open_room("Goes");
        chat.poll();
        chat.close_room(gone);
        chat.poll();
        chat.advance(hours(25));
        chat.expect_sent(["Stays: Welcome!", "Goes: Welcome!", "Stays: Still here?"]);
        chat.world().check();
    }

    #[test]
    fn an_answer_that_is_lost_and_a_server_that_is_away_double_nothing() {
        let mut chat = greeter(r#"{"greeting": "Welcome!", "follow_up": "Still here?"}"#);
        chat.lose_next_reply();
        chat.open_room("Support");
        chat.poll();
        chat.advance(hours(23));
        chat.server_down_for(minutes(90));
        chat.advance(hours(24));
        chat.expect_sent(["Support: Welcome!", "Support: Still here?"]);
        chat.world().check();
    }
}
