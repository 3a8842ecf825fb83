//! The product: splitter, decoders and diff as they are, over a store that is a map. What the poller
//! does between them stands here in a few lines; that it does so is shown over the simulator.

use std::collections::BTreeMap;

use imbabot_core::wire::split::{Elements, RawElement, Splitter};
use imbabot_core::{Room, RoomId, Timestamp};
use imbabot_scheduler::diff::{Index, Observation, Trust, Verdict, room_changes};

use super::oracle::{AGREEING, GONE_AFTER, MASS, Told};
use super::served::WIDGET;
use super::truth::View;

/// What survives the daemon.
#[derive(Default)]
struct Store {
    has_baseline: bool,
    items: BTreeMap<u64, (u64, Room)>,
    gone: Vec<u64>,
}

/// How a poll ended.
pub(crate) enum End {
    /// There was nothing to learn from.
    NoList,
    /// It was not believed.
    Held,
    /// The first list, committed whole.
    Baseline,
    /// The first list, of which only these rooms were committed.
    PartOfBaseline(Vec<u64>),
    /// These events were committed.
    Told(Vec<Told>),
}

#[derive(Default)]
pub(crate) struct Daemon {
    store: Store,
    index: Option<Index>,
}

impl Daemon {
    /// Everything but the store is lost.
    pub(crate) fn restart(&mut self) {
        self.index = None;
    }

    /// Polls. `only`: it is killed when so many rooms are committed.
    pub(crate) fn poll(&mut self, body: Option<&[u8]>, pieces: usize, only: Option<usize>) -> End {
        let mut index = self.index.take().unwrap_or_else(|| {
            let listed = self.store.items.iter().map(|(id, (hash, _))| (*id, *hash)).collect();
            Index::restore(self.store.has_baseline, listed, self.store.gone.clone())
        });
        let end = self.poll_with(&mut index, body, pieces, only);
        self.index = only.is_none().then_some(index);
        end
    }

    fn poll_with(
        &mut self,
        index: &mut Index,
        body: Option<&[u8]>,
        pieces: usize,
        only: Option<usize>,
    ) -> End {
        let Some(body) = body else { return End::NoList };
        let mut splitter = Splitter::new(1024 * 1024);
        let mut observation = index.observe::<Room>(WIDGET);
        for piece in body.chunks(pieces) {
            if splitter.feed(piece, &mut Reader(&mut observation)).is_err() {
                return End::NoList;
            }
        }
        if splitter.finish().is_err() {
            return End::NoList;
        }
        let observed = observation.finish();
        if observed.widgets.iter().any(|widget| widget.0 != WIDGET) {
            return End::NoList;
        }
        let trust = Trust { gone_after: GONE_AFTER, mass: MASS, agreeing: AGREEING };
        let delta = match index.judge(&observed, trust) {
            Verdict::Held { .. } => return End::Held,
            Verdict::Baseline => {
                let mut ids: Vec<u64> = observed.decoded.ids().collect();
                let whole = only.is_none_or(|only| only > ids.len());
                ids.truncate(only.unwrap_or(usize::MAX));
                for id in &ids {
                    let (room, mark) = observed.decoded.get(*id).unwrap();
                    self.store.items.insert(*id, (mark, room));
                }
                if !whole {
                    return End::PartOfBaseline(ids);
                }
                self.store.has_baseline = true;
                index.commit(observed, &[]);
                return End::Baseline;
            }
            Verdict::Believed(delta) => delta,
        };
        let mut touched: Vec<u64> =
            [&delta.appeared[..], &delta.returned, &delta.changed, &delta.gone].concat();
        touched.sort_unstable();
        touched.truncate(only.unwrap_or(usize::MAX));
        let mut told = Vec::new();
        for id in touched {
            let before = self.store.items.get(&id).map(|(_, room)| room.clone());
            if delta.gone.contains(&id) {
                let before = before.expect("what is gone was there");
                self.store.items.remove(&id);
                self.store.gone.push(id);
                told.push(event(id, "gone", Some(&before), &before));
                continue;
            }
            let (after, mark) = observed.decoded.get(id).expect("what differs is decoded");
            match &before {
                None => {
                    let change = if delta.returned.contains(&id) { "returned" } else { "opened" };
                    told.push(event(id, change, None, &after));
                }
                Some(before) => {
                    for change in room_changes(before, &after) {
                        told.push(event(id, change.as_str(), Some(before), &after));
                    }
                }
            }
            self.store.gone.retain(|gone| *gone != id);
            self.store.items.insert(id, (mark, after));
        }
        if only.is_none() {
            index.commit(observed, &delta.gone);
        }
        End::Told(told)
    }
}

/// As the poller reads: an element that is known where it is expected is not looked through.
struct Reader<'a, 'i>(&'a mut Observation<'i, Room>);

impl Elements for Reader<'_, '_> {
    fn element(&mut self, element: RawElement<'_>) {
        assert!(self.0.push(element.bytes).is_continue());
    }

    fn known(&mut self, ahead: &[u8]) -> usize {
        self.0.known(ahead)
    }
}

fn event(room: u64, change: &str, before: Option<&Room>, after: &Room) -> Told {
    Told { room, change: change.into(), before: before.map(view), after: view(after) }
}

fn view(room: &Room) -> View {
    assert_ne!(room.id, RoomId(0));
    View {
        name: room.name.clone(),
        kind: room.kind.number(),
        status: room.status,
        public: room.is_public,
        admin: room.admin_id.unwrap().0,
        updated: room.updated_at.map(Timestamp::as_seconds).unwrap(),
    }
}
