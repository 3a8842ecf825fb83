//! What one writes first: the whole list into owned structs, and a map of the last ones.

use std::collections::HashMap;

use serde::Deserialize;

#[derive(Deserialize)]
struct Reply {
    data: Vec<Room>,
}

#[derive(Deserialize, PartialEq)]
struct Room {
    id: u64,
    pipe: String,
    name: String,
    admin_id: u64,
    #[serde(rename = "type")]
    kind: i64,
    tab: i64,
    is_public: i64,
    created_at: String,
    updated_at: String,
    deleted_at: Option<String>,
    status: i64,
    imba_id: u64,
    note: String,
}

/// The rooms of the last list.
pub(crate) struct Naive {
    last: HashMap<u64, Room>,
}

impl Naive {
    pub(crate) fn new(first: &[u8]) -> anyhow::Result<Self> {
        let mut naive = Self { last: HashMap::new() };
        naive.poll(first)?;
        Ok(naive)
    }

    /// How many rooms are new, changed or gone.
    pub(crate) fn poll(&mut self, body: &[u8]) -> anyhow::Result<usize> {
        let reply: Reply = serde_json::from_slice(body)?;
        let rooms: HashMap<u64, Room> =
            reply.data.into_iter().map(|room| (room.id, room)).collect();
        let news = rooms.iter().filter(|(id, room)| self.last.get(id) != Some(room)).count();
        let gone = self.last.keys().filter(|id| !rooms.contains_key(id)).count();
        self.last = rooms;
        Ok(news + gone)
    }
}
