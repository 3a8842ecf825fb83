//! What the daemon does with a list, from its bytes to the events. Rooms as they were before, which
//! the daemon reads from its store, come from a map here.

use std::collections::HashMap;

use imbabot_core::wire::split::{Elements, RawElement, Splitter};
use imbabot_core::{Room, decode_room};
use imbabot_scheduler::diff::{Index, Observation, Trust, Verdict, room_changes};

const SEED: u64 = 627;

/// The daemon's side of a list.
pub(crate) struct Ours {
    index: Index,
    before: HashMap<u64, Room>,
}

impl Ours {
    /// After the first of these lists; the others say which rooms will change.
    pub(crate) fn new(bodies: &[Vec<u8>]) -> anyhow::Result<Self> {
        let mut ours = Self { index: Index::default(), before: HashMap::new() };
        ours.poll(&bodies[0])?;
        if let [first, second] = bodies {
            let (first, second) = (elements(first)?, elements(second)?);
            let pairs = first.iter().zip(&second).filter(|(a, b)| a != b);
            let rooms = pairs.filter_map(|(before, _)| decode_room(before).ok());
            ours.before = rooms.map(|room| (room.id.0, room)).collect();
        }
        Ok(ours)
    }

    /// Takes a list; how many events came of it.
    pub(crate) fn poll(&mut self, body: &[u8]) -> anyhow::Result<usize> {
        let mut observation = self.index.observe::<Room>(SEED);
        let mut splitter = Splitter::new(1024 * 1024);
        splitter.feed(body, &mut Reader(&mut observation))?;
        splitter.finish()?;
        let observed = observation.finish();
        let mut events = 0;
        let gone = match self.index.judge(&observed, Trust::after(3)) {
            Verdict::Baseline => Vec::new(),
            Verdict::Held { .. } => anyhow::bail!("held"),
            Verdict::Believed(delta) => {
                for id in &delta.changed {
                    let Some((after, _)) = observed.decoded.get(*id) else { continue };
                    let Some(before) = self.before.get_mut(id) else { continue };
                    events += usize::from(!room_changes(before, &after).is_empty());
                    *before = after;
                }
                delta.gone
            }
        };
        self.index.commit(observed, &gone);
        Ok(events)
    }
}

struct Reader<'a, 'i>(&'a mut Observation<'i, Room>);

impl Elements for Reader<'_, '_> {
    fn element(&mut self, element: RawElement<'_>) {
        let _ = self.0.push(element.bytes);
    }

    fn known(&mut self, ahead: &[u8]) -> usize {
        self.0.known(ahead)
    }
}

fn elements(body: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    let mut splitter = Splitter::new(1024 * 1024);
    splitter.feed(body, &mut |element: RawElement<'_>| all.push(element.bytes.to_vec()))?;
    Ok(all)
}
