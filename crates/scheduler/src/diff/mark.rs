//! What is remembered of an element's bytes: 64 bits. 51 of them are a hash, by which a change is
//! overlooked once in 2·10¹⁵ changes that leave the length as it is; 12 are the length, by which the
//! end of the element need not be looked for; one says that the row calls itself deleted.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// The row says that it was deleted.
pub(super) const DELETED: u64 = 1 << 63;
const LENGTH: u64 = 0xfff;

/// Makes marks. They are stored, so what it makes of a seed and bytes never changes.
pub(super) struct Marker(RapidSecrets);

impl std::fmt::Debug for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Marker")
    }
}

impl Marker {
    pub(super) fn new(seed: u64) -> Self {
        Self(RapidSecrets::seed(seed))
    }

    /// The mark of an element that is not deleted.
    pub(super) fn of(&self, bytes: &[u8]) -> u64 {
        let hash = rapidhash_v3_seeded(bytes, &self.0);
        (hash & !DELETED & !LENGTH) | (bytes.len() as u64).min(LENGTH)
    }
}

/// How long the element is, if the mark says so.
pub(super) fn length(mark: u64) -> Option<usize> {
    // 12 bits fit.
    let length = (mark & LENGTH) as usize;
    (length < LENGTH as usize).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_the_same_in_every_build_and_on_every_machine() {
        let marker = Marker::new(627);
        let marks = [&b""[..], b"{}", &[b'x'; 265], &[b'x'; 5000]].map(|bytes| marker.of(bytes));
        let expected = [
            7_628_037_934_238_892_032,
            3_353_571_426_565_922_818,
            9_030_642_082_803_142_921,
            3_276_683_514_716_135_423,
        ];
        assert_eq!(marks, expected);
    }

    #[test]
    fn a_mark_tells_the_length_of_what_is_short_enough() {
        let marker = Marker::new(1);
        for bytes in [0, 1, 265, 4094] {
            assert_eq!(length(marker.of(&vec![b'a'; bytes])), Some(bytes));
        }
        assert_eq!(length(marker.of(&[b'a'; 4095])), None);
        assert_ne!(marker.of(&[b'a'; 4095]), Marker::new(2).of(&[b'a'; 4095]));
    }
}
