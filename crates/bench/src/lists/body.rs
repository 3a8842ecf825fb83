//! Lists as a large site answers them: 265 bytes a room, as the API's own sample has its fields.

use std::fmt::Write as _;

/// How long a room is, comma included.
const LENGTH: usize = 265;

const HEAD: &str = r#"{"success":"true","data":["#;

/// A site with so many rooms.
pub(crate) struct Site {
    rooms: u64,
}

impl Site {
    pub(crate) fn new(rooms: u64) -> Self {
        Self { rooms }
    }

    pub(crate) fn rooms(&self) -> u64 {
        self.rooms
    }

    /// Where in its list the room of this number stands: each is as long as any other.
    pub(crate) fn offset_of(id: u64) -> usize {
        HEAD.len() + LENGTH * usize::try_from(id - 1).unwrap_or(0)
    }

    /// Its list.
    pub(crate) fn body(&self) -> Vec<u8> {
        self.list(|_| false)
    }

    /// Its list after one room in `every` got another name and time.
    pub(crate) fn changed(&self, every: u64) -> Vec<u8> {
        self.list(|id| id % every == 0)
    }

    fn list(&self, is_changed: impl Fn(u64) -> bool) -> Vec<u8> {
        let rooms = usize::try_from(self.rooms).unwrap_or(usize::MAX);
        let mut body = String::with_capacity(rooms * LENGTH + 100);
        body.push_str(HEAD);
        for id in 1..=self.rooms {
            if id > 1 {
                body.push(',');
            }
            room(&mut body, id, u64::from(is_changed(id)));
        }
        body.push_str(r#"],"code":200}"#);
        body.into_bytes()
    }
}

/// Appends one room, in its `version`th state.
pub(crate) fn room(body: &mut String, id: u64, version: u64) {
    let begin = body.len();
    let (minute, second) = (version / 60 % 60, version % 60);
    // Writing to a string does not fail.
    let _ = write!(
        body,
        r#"{{"id":{id},"pipe":"5fde659f{:05x}_1608410527","name":"{} {id}","admin_id":{},"type":{},"tab":0,"is_public":{},"created_at":"2020-12-19 20:42:07","updated_at":"2020-12-20 08:{minute:02}:{second:02}","deleted_at":null,"status":0,"imba_id":627,"note":""#,
        id % 0xfffff,
        if version == 0 { "Conversation" } else { "Renamed conversation" },
        id % 5_000,
        id % 2,
        id % 3 / 2,
    );
    let filled = body.len() - begin + 3;
    body.extend(std::iter::repeat_n('x', LENGTH.saturating_sub(filled)));
    body.push_str("\"}");
}
