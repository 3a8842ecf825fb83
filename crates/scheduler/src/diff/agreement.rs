//! Tests: whatever happens to a list, reading it with what is known of it finds what reading every
//! element finds, and what a map of the last list finds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;

use imbabot_core::Room;
use imbabot_core::wire::split::{Elements, RawElement, Splitter};
use proptest::prelude::*;

use super::{Delta, Index, Observation, Trust, Verdict};

/// Nothing is ever suspicious here, and what is missing is gone at once.
const TRUST: Trust = Trust { gone_after: 1, mass: usize::MAX, agreeing: 1 };

#[derive(Debug, Clone)]
enum Edit {
    Open(usize, u64),
    Close(usize),
    Rename(usize, u8),
    Move(usize, usize),
    Repeat(usize, usize, u8),
    MarkDeleted(usize),
    Rotate(usize),
}

/// A row as the server has it: id, name, whether it is deleted.
type Row = (u64, u8, bool);

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0..40_usize;
    prop_oneof![
        (at.clone(), 1..60_u64).prop_map(|(at, id)| Edit::Open(at, id)),
        at.clone().prop_map(Edit::Close),
        (at.clone(), 0..20_u8).prop_map(|(at, name)| Edit::Rename(at, name)),
        (at.clone(), at.clone()).prop_map(|(from, to)| Edit::Move(from, to)),
        (at.clone(), at.clone(), 0..20_u8).prop_map(|(of, at, name)| Edit::Repeat(of, at, name)),
        at.clone().prop_map(Edit::MarkDeleted),
        at.prop_map(Edit::Rotate),
    ]
}

fn apply(rows: &mut Vec<Row>, edit: &Edit) {
    let place = |at: usize| at % rows.len().max(1);
    match *edit {
        Edit::Open(at, id) => rows.insert(at % (rows.len() + 1), (id, 0, false)),
        _ if rows.is_empty() => {}
        Edit::Close(at) => drop(rows.remove(place(at))),
        Edit::Rename(at, name) => {
            let at = place(at);
            rows[at].1 = name;
        }
        Edit::Move(from, to) => {
            let row = rows.remove(from % rows.len());
            rows.insert(to % (rows.len() + 1), row);
        }
        Edit::Repeat(of, at, name) => {
            let row = (rows[place(of)].0, name, false);
            rows.insert(at % (rows.len() + 1), row);
        }
        Edit::MarkDeleted(at) => {
            let at = place(at);
            rows[at].2 = true;
        }
        Edit::Rotate(by) => {
            let by = place(by);
            rows.rotate_left(by);
        }
    }
}

fn element(&(id, name, deleted): &Row) -> String {
    // Names of different lengths, some longer than a mark can tell, some with braces.
    let name = "}{\\\"x,".repeat(usize::from(name).pow(2) * usize::from(name % 5 != 4)) + "ab";
    let deleted = if deleted { r#""2026-01-01 00:00:00""# } else { "null" };
    format!(r#"{{"id":{id},"name":"{}","type":1,"deleted_at":{deleted}}}"#, name.replace('\\', ""))
        .replace("{\"x", "{'x")
}

struct Known<'a, 'i>(&'a mut Observation<'i, Room>);

impl Elements for Known<'_, '_> {
    fn element(&mut self, element: RawElement<'_>) {
        assert!(self.0.push(element.bytes).is_continue());
    }

    fn known(&mut self, ahead: &[u8]) -> usize {
        self.0.known(ahead)
    }
}

fn found(index: &mut Index, read: impl FnOnce(&mut Observation<'_, Room>)) -> (Delta, Vec<Room>) {
    let mut observation = index.observe::<Room>(7);
    read(&mut observation);
    let observed = observation.finish();
    let delta = match index.judge(&observed, TRUST) {
        Verdict::Baseline => Delta::default(),
        Verdict::Believed(delta) => delta,
        Verdict::Held { .. } => panic!("held"),
    };
    let fresh = delta.appeared.iter().chain(&delta.returned).chain(&delta.changed);
    let rooms = fresh.map(|id| observed.decoded.get(*id).unwrap().0).collect();
    let counted = observed.len();
    index.commit(observed, &delta.gone);
    assert_eq!(counted, index.len());
    (delta, rooms)
}

/// What a map finds.
#[derive(Default)]
struct Model {
    listed: BTreeMap<u64, String>,
    ever: std::collections::BTreeSet<u64>,
}

impl Model {
    fn poll(&mut self, rows: &[Row]) -> Delta {
        // The last row of an id counts, deleted or not.
        let last: BTreeMap<u64, &Row> = rows.iter().map(|row| (row.0, row)).collect();
        let live = last.into_iter().filter(|(_, row)| !row.2);
        let now: BTreeMap<u64, String> = live.map(|(id, row)| (id, element(row))).collect();
        let mut delta = Delta::default();
        for (id, bytes) in &now {
            match self.listed.get(id) {
                Some(before) if before == bytes => {}
                Some(_) => delta.changed.push(*id),
                None if self.ever.contains(id) => delta.returned.push(*id),
                None => delta.appeared.push(*id),
            }
        }
        delta.gone = self.listed.keys().filter(|id| !now.contains_key(id)).copied().collect();
        self.ever.extend(now.keys());
        self.listed = now;
        delta
    }
}

proptest! {
    #[test]
    fn a_list_read_with_what_is_known_of_it_is_the_same_list(
        polls in prop::collection::vec(prop::collection::vec(edit(), 0..12), 1..12),
        piece in prop_oneof![1..40_usize, 40..4_000_usize],
        restarts in prop::collection::vec(any::<bool>(), 12),
    ) {
        let mut rows: Vec<Row> = (1..30).map(|id| (id, 0, false)).collect();
        let (mut plain, mut quick) = (Index::default(), Index::default());
        let mut model = Model::default();
        for (n, edits) in polls.iter().enumerate() {
            edits.iter().for_each(|edit| apply(&mut rows, edit));
            let elements: Vec<String> = rows.iter().map(element).collect();
            let expected = found(&mut plain, |observation| {
                for element in &elements {
                    assert!(observation.push(element.as_bytes()).is_continue());
                }
            });
            let body = format!(r#"{{"success":true,"data":[{}]}}"#, elements.join(","));
            let actual = found(&mut quick, |observation| {
                let mut splitter = Splitter::new(1024 * 1024);
                for piece in body.as_bytes().chunks(piece) {
                    splitter.feed(piece, &mut Known(observation)).unwrap();
                }
                let end = splitter.finish().unwrap();
                assert_eq!(end.elements, elements.len() as u64);
            });
            prop_assert_eq!(&actual, &expected);
            let told = model.poll(&rows);
            if n > 0 {
                prop_assert_eq!(&actual.0, &told);
            }
            if restarts[n] {
                // What the store remembers is enough to go on.
                let listed = quick.rows.by_id().filter(|(_, mark)| super::is_live(*mark));
                quick = Index::restore(true, listed.collect(), quick.gone.clone());
            }
        }
    }
}
