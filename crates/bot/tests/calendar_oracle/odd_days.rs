//! The two odd days by themselves: a daily time that falls into each gap and each repeat of each zone.

use std::collections::BTreeSet;

use imbabot_bot::schedule::{Dst, Gap, Repeat};

use super::agreement::{Decade, SELDOM, of_product, schedule};
use super::civil::DAY;

/// The instants within half a day of a seam at which a daily schedule at that local time comes.
fn around(zone: &str, seam: i64, local: i64, dst: Dst) -> Vec<i64> {
    let time = local.rem_euclid(DAY);
    let text = format!("{} {} {} * * *", time % 60, time % 3600 / 60, time / 3600);
    let daily = schedule(&text, zone, dst, &BTreeSet::new());
    let found = of_product(&daily, seam - DAY / 2, seam + DAY / 2);
    found.into_iter().map(|found| found.at).collect()
}

/// Each change of each zone: the seam, the offset before it, the offset after it.
fn changes(decade: &Decade) -> impl Iterator<Item = (i64, i64, i64)> {
    let spans = &decade.timeline.spans;
    spans.iter().zip(&spans[1..]).map(|(a, b)| (b.from, a.offset, b.offset))
}

#[test]
fn t1_a_time_in_a_gap_comes_once_after_it_or_not_at_all_in_more_than_25_zones() {
    let (mut zones, mut gaps) = (BTreeSet::new(), 0);
    for decade in Decade::all(SELDOM) {
        let zone = decade.zone;
        for (seam, before, after) in changes(decade).filter(|(_, before, after)| before < after) {
            // Its first second, one in the middle, its last; a day that is missing has other tests.
            let width = after - before;
            if width >= DAY / 2 {
                continue;
            }
            for into in [0, width / 2, width - 1] {
                let local = seam + before + into;
                for repeat in [Repeat::First, Repeat::Second, Repeat::Both] {
                    let shift = around(zone, seam, local, Dst { gap: Gap::Shift, repeat });
                    assert_eq!(shift, [seam], "{zone}, {into} s into the gap");
                    let skip = around(zone, seam, local, Dst { gap: Gap::Skip, repeat });
                    assert!(skip.is_empty(), "{zone}, {into} s into the gap: {skip:?}");
                }
            }
            // The seconds beside it are ordinary times.
            let shift = Dst::default();
            assert_eq!(around(zone, seam, seam + before - 1, shift), [seam - 1], "{zone}");
            assert_eq!(around(zone, seam, seam + after, shift), [seam], "{zone}");
            zones.insert(zone);
            gaps += 1;
        }
    }
    println!("{gaps} gaps in {} zones", zones.len());
    assert!(zones.len() >= 25 && gaps > 250, "{gaps} gaps in {} zones", zones.len());
}

#[test]
fn t2_a_time_that_comes_twice_comes_on_the_first_pass_the_second_or_both() {
    let (mut zones, mut repeats) = (BTreeSet::new(), 0);
    for decade in Decade::all(SELDOM) {
        let zone = decade.zone;
        for (seam, before, after) in changes(decade).filter(|(_, before, after)| before > after) {
            let width = before - after;
            for into in [0, width / 2, width - 1] {
                let (first, second) = (seam - width + into, seam + into);
                for gap in [Gap::Shift, Gap::Skip] {
                    let at = |repeat| around(zone, seam, first + before, Dst { gap, repeat });
                    assert_eq!(at(Repeat::First), [first], "{zone}, {into} s into it");
                    assert_eq!(at(Repeat::Second), [second], "{zone}, {into} s into it");
                    assert_eq!(at(Repeat::Both), [first, second], "{zone}, {into} s into it");
                }
            }
            // The seconds beside it, shown once, are ordinary times.
            for repeat in [Repeat::First, Repeat::Second, Repeat::Both] {
                let at = |local| around(zone, seam, local, Dst { gap: Gap::Shift, repeat });
                assert_eq!(at(seam + after - 1), [seam - width - 1], "{zone} {repeat:?}");
                assert_eq!(at(seam + before), [seam + width], "{zone} {repeat:?}");
            }
            zones.insert(zone);
            repeats += 1;
        }
    }
    println!("{repeats} repeats in {} zones", zones.len());
    assert!(zones.len() >= 25 && repeats > 250, "{repeats} repeats in {} zones", zones.len());
}
