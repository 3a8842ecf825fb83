//! What one writes first: the whole list into owned structs, and a map of the last ones.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread;

use super::timed;

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

type Answer = anyhow::Result<(f64, usize)>;

/// It in a thread of its own: the millions of strings that it lets go of would slow down whoever
/// takes memory from the same heap.
pub(crate) struct Apart {
    ask: mpsc::Sender<usize>,
    answers: mpsc::Receiver<Answer>,
}

impl Apart {
    /// After the first of these lists.
    pub(crate) fn new(bodies: &Arc<[Vec<u8>; 2]>) -> anyhow::Result<Self> {
        let (ask, asked) = mpsc::channel::<usize>();
        let (tell, answers) = mpsc::channel();
        let bodies = Arc::clone(bodies);
        thread::spawn(move || {
            let mut naive = Naive::default();
            while let Ok(which) = asked.recv() {
                let (seconds, found) = timed(|| naive.poll(&bodies[which]));
                let _ = tell.send(found.map(|found| (seconds, found)));
            }
        });
        let apart = Self { ask, answers };
        apart.poll(0)?;
        Ok(apart)
    }

    /// Takes one of the lists; how long it took and how many rooms are new, changed or gone.
    pub(crate) fn poll(&self, which: usize) -> Answer {
        self.ask.send(which)?;
        self.answers.recv()?
    }
}

/// The rooms of the last list.
#[derive(Default)]
pub(crate) struct Naive {
    last: HashMap<u64, Room>,
}

impl Naive {
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
