//! Which of the vendor's filters a server honours: each is asked with, and what comes is held against
//! the list without it. The daemon filters everything itself, so whatever comes out of this changes
//! nothing of what it does.

use std::collections::BTreeSet;

use imbabot_store::Honoured;

/// What came of asking with a filter, by the numbers of the rows.
///
/// `expected` is what the filter says, where the rows tell; `None` where they do not (a date, a ban).
pub(super) fn verdict(
    all: &BTreeSet<u64>,
    expected: Option<&BTreeSet<u64>>,
    came: &BTreeSet<u64>,
) -> Honoured {
    match expected {
        // With nothing to leave out, or nothing to leave, there is nothing to see.
        _ if all.is_empty() => Honoured::Unclear,
        Some(expected) if expected == all || expected.is_empty() => Honoured::Unclear,
        Some(expected) if came == expected => Honoured::Yes,
        _ if came == all => Honoured::No,
        None if came.is_subset(all) => Honoured::Yes,
        _ => Honoured::Wrongly,
    }
}

/// The filters in a line: which do what they say, and which do not.
pub(super) fn line(tried: &[(&str, Honoured)]) -> String {
    let of = |verdict: Honoured| -> Vec<&str> {
        tried.iter().filter(|(_, v)| *v == verdict).map(|(name, _)| *name).collect()
    };
    let parts = [
        ("honoured", of(Honoured::Yes)),
        ("ignored", of(Honoured::No)),
        ("answered with something else", of(Honoured::Wrongly)),
        ("not to be told from these rows", of(Honoured::Unclear)),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", names.join(", ")))
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn a_filter_is_judged_by_what_it_leaves_out() {
        let all = set(&[1, 2, 3]);
        let of = |expected: Option<&[u64]>, came: &[u64]| {
            verdict(&all, expected.map(set).as_ref(), &set(came))
        };
        assert_eq!(of(Some(&[1]), &[1]), Honoured::Yes);
        assert_eq!(of(Some(&[1]), &[1, 2, 3]), Honoured::No);
        assert_eq!(of(Some(&[1]), &[2]), Honoured::Wrongly);
        assert_eq!(of(Some(&[1]), &[]), Honoured::Wrongly);
        assert_eq!(of(Some(&[1, 2, 3]), &[1, 2, 3]), Honoured::Unclear);
        assert_eq!(of(Some(&[]), &[]), Honoured::Unclear);
        assert_eq!(of(None, &[]), Honoured::Yes);
        assert_eq!(of(None, &[1, 2, 3]), Honoured::No);
        assert_eq!(of(None, &[4]), Honoured::Wrongly);
        assert_eq!(verdict(&set(&[]), None, &set(&[])), Honoured::Unclear);
    }
}
