//! Messages, and how people post them. The API never reads a message back; this crate's own
//! callers may.

use crate::change::Change;
use crate::simulator::{Simulator, SimulatorError, State};
use crate::user::User;

/// A message as the server stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// ImbaChat's id, ascending over all rooms.
    pub id: i64,
    /// `<room>-<unix seconds>-<6 letters or digits>`.
    pub uuid: String,
    /// The room it is in.
    pub room: i64,
    /// ImbaChat's id of its author.
    pub user_id: i64,
    /// The site's id of its author.
    pub site_user_id: String,
    /// The author's name when it was posted.
    pub user: String,
    /// The text as it was received.
    pub text: String,
    /// Unix seconds of the server's clock.
    pub time: i64,
    /// The value of `X-Imbabot-Delivery`, which only a bot sends.
    pub delivery: Option<String>,
}

impl Message {
    /// Whether a bot posted it.
    #[must_use]
    pub fn by_bot(&self) -> bool {
        self.delivery.is_some()
    }
}

impl Simulator {
    /// Posts as a person, through the widget and not through the API, and returns the message's
    /// id. An unknown author joins.
    #[expect(clippy::needless_pass_by_value, reason = "takes 1 as well as \"1\"")]
    pub fn post(
        &self,
        room: i64,
        site_user_id: impl ToString,
        text: &str,
    ) -> Result<i64, SimulatorError> {
        let now = self.now_micros();
        let mut state = self.state();
        let known = state.rooms.get(&room).ok_or(SimulatorError::UnknownRoom(room))?;
        if known.deleted_at.is_some() {
            return Err(SimulatorError::ClosedRoom(room));
        }
        let author = state.user_or_join(&site_user_id.to_string(), now);
        let message = state.draft_message(room, &author, text, None, now);
        let id = message.id;
        state.store_message(message);
        Ok(id)
    }

    /// The messages of a room in the order they were posted.
    #[must_use]
    pub fn messages(&self, room: i64) -> Vec<Message> {
        self.state().messages.get(&room).cloned().unwrap_or_default()
    }

    /// The messages of all rooms by ascending id.
    #[must_use]
    pub fn all_messages(&self) -> Vec<Message> {
        let mut all: Vec<_> = self.state().messages.values().flatten().cloned().collect();
        all.sort_unstable_by_key(|message| message.id);
        all
    }
}

impl State {
    /// A message with its id and uuid, not yet in its room.
    pub(crate) fn draft_message(
        &mut self,
        room: i64,
        author: &User,
        text: &str,
        delivery: Option<&str>,
        now_micros: i64,
    ) -> Message {
        let id = self.next_message;
        self.next_message += 1;
        let time = self.server_time(now_micros);
        Message {
            id,
            uuid: format!("{room}-{time}-{}", self.rng.alphanumeric(6)),
            room,
            user_id: author.id,
            site_user_id: author.site_user_id.clone(),
            user: author.name.clone(),
            text: text.to_owned(),
            time,
            delivery: delivery.map(str::to_owned),
        }
    }

    pub(crate) fn store_message(&mut self, message: Message) {
        if self.options.bump_updated_at_on_send
            && let Some(room) = self.rooms.get_mut(&message.room)
        {
            room.updated_at = message.time;
        }
        self.last_message = Some((message.id, message.uuid.clone()));
        self.messages.entry(message.room).or_default().push(message.clone());
        self.announce(Change::Message(message));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{START, simulator_and_clock};

    use super::*;

    #[test]
    fn a_message_moves_its_rooms_updated_at_only_if_asked_to() {
        for (bump, moved_by) in [(true, 60), (false, 0)] {
            let (simulator, clock) = simulator_and_clock();
            simulator.configure(|options| options.bump_updated_at_on_send = bump);
            let room = simulator.open_room("Team 1");
            clock.advance(60_000_000);
            simulator.post(room, 1, "hello").unwrap();
            assert_eq!(simulator.room(room).unwrap().updated_at, START + moved_by);
        }
    }

    #[test]
    fn a_uuid_names_the_room_and_the_second() {
        let (simulator, _) = simulator_and_clock();
        let room = simulator.open_room("Team 1");
        simulator.post(room, 1, "hello").unwrap();
        let message = simulator.messages(room).remove(0);
        let parts: Vec<_> = message.uuid.split('-').map(str::to_owned).collect();
        assert_eq!(parts[..2], ["1536".to_owned(), message.time.to_string()]);
        assert_eq!(parts[2].len(), 6);
        assert!(!message.by_bot());
    }

    #[test]
    fn nobody_posts_into_a_closed_room() {
        let (simulator, _) = simulator_and_clock();
        let room = simulator.open_room("Team 1");
        simulator.close_room(room, false).unwrap();
        assert_eq!(simulator.post(room, 1, "x"), Err(SimulatorError::ClosedRoom(room)));
    }
}
