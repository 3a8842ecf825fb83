//! The rooms of an occurrence, pinned when it fired: eight bytes each in one column, so that any part
//! of a million is read without the rest, and beside it which widget how many of them belong to. Both
//! are written once. Knows no table.

use imbabot_bot::WidgetName;
use imbabot_core::RoomId;

use crate::error::Result;
use crate::postgres::row::{from_json, to_json, unreadable};
use crate::schedules::Target;

/// The size of one room.
pub(super) const ROOM: usize = 8;

/// Rooms as they are kept.
pub(crate) struct Packed {
    /// The rooms, eight bytes each, the lowest first.
    pub(crate) rooms: Vec<u8>,
    /// JSON: `[["main",3],["other",1]]`, in the order of the rooms.
    pub(crate) widgets: String,
}

pub(crate) fn pack(targets: &[Target]) -> Result<Packed> {
    let mut rooms = Vec::with_capacity(targets.len() * ROOM);
    let mut widgets: Vec<(&str, usize)> = Vec::new();
    for target in targets {
        match widgets.last_mut() {
            Some((name, count)) if *name == target.widget.as_str() => *count += 1,
            _ => widgets.push((target.widget.as_str(), 1)),
        }
        rooms.extend_from_slice(&target.room.0.to_le_bytes());
    }
    Ok(Packed { rooms, widgets: to_json(&widgets)? })
}

impl Packed {
    /// The targets of `rooms`, which are those from `position` on.
    pub(crate) fn unpack(widgets: &str, position: usize, rooms: &[u8]) -> Result<Vec<Target>> {
        let damaged = || unreadable("the rooms of an occurrence");
        let (rooms, rest) = rooms.as_chunks::<ROOM>();
        let widgets: Vec<(WidgetName, usize)> = from_json(widgets)?;
        let mut skip = position;
        let mut left = rooms.iter();
        let mut found = Vec::with_capacity(rooms.len());
        for (widget, count) in widgets {
            let here = count.saturating_sub(skip);
            skip = skip.saturating_sub(count);
            let room = |room: &[u8; ROOM]| Target {
                widget: widget.clone(),
                room: RoomId(u64::from_le_bytes(*room)),
            };
            found.extend(left.by_ref().take(here).map(room));
        }
        // Each room belongs to a widget.
        if !rest.is_empty() || left.next().is_some() {
            return Err(damaged());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_the_pinned_rooms_is_read_back() {
        let target =
            |widget: &str, room| Target { widget: widget.parse().unwrap(), room: RoomId(room) };
        let all = vec![target("a", 1), target("a", u64::MAX), target("b", 3), target("c", 4)];
        let packed = pack(&all).unwrap();
        assert_eq!(packed.widgets, r#"[["a",2],["b",1],["c",1]]"#);
        for position in 0..=4 {
            for end in position..=4 {
                let part = &packed.rooms[position * ROOM..end * ROOM];
                let read = Packed::unpack(&packed.widgets, position, part).unwrap();
                assert_eq!(read, all[position..end]);
            }
        }
    }

    #[test]
    fn rooms_that_belong_to_no_widget_are_damage() {
        let target = Target { widget: "a".parse().unwrap(), room: RoomId(1) };
        let packed = pack(std::slice::from_ref(&target)).unwrap();
        assert!(Packed::unpack("[]", 0, &packed.rooms).is_err());
        assert!(Packed::unpack(&packed.widgets, 1, &packed.rooms).is_err());
        assert!(Packed::unpack(&packed.widgets, 0, &packed.rooms[..5]).is_err());
        assert!(Packed::unpack("{", 0, &packed.rooms).is_err());
    }
}
