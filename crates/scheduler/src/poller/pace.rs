//! How far apart the polls of a list are: not closer than configured, further apart where nothing
//! changes and somebody allowed that, never in step with others, and one in time for an
//! announcement. Pure arithmetic on lengths of time; what failures do to it, the breaker says.

use std::time::Duration;

use imbabot_bot::WidgetName;
use imbabot_store::ListKind;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// A list in which nothing changed for ten minutes is asked for a minute apart, if that is allowed.
const QUIET_PER_POLL: u32 = 10;
/// After polls that came for all lists at once, the next one comes sooner by chance, up to so much of
/// its distance. Once is enough: lists that are out of step stay so, since their distance is the same.
const SPREAD: f64 = 0.25;
/// A list that is at most so old, or a fifth of the distance if that is more, is fresh.
const FRESH: Duration = Duration::from_secs(5);
const FRESH_PART: u32 = 5;
/// A poll for an announcement starts so long before it, and twice as long as the last one took.
const LEAD: Duration = Duration::from_secs(1);
const LONGEST_LEAD: Duration = Duration::from_secs(60);

/// The distance of a list in which nothing changed for so long.
pub(super) fn stretched(usual: Duration, most: Duration, quiet: Duration) -> Duration {
    usual.max(most.min(quiet / QUIET_PER_POLL))
}

/// A number from 0 to 1 for the `n`-th poll of a list: the same in every run from one seed, however
/// the polls of other lists lie between.
pub(super) fn chance(seed: u64, widget: &WidgetName, kind: ListKind, n: u64) -> f64 {
    let what = format!("{widget}/{}/{n}", kind.as_str());
    let hash = rapidhash_v3_seeded(what.as_bytes(), &RapidSecrets::seed(seed));
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    let fraction = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// The distance after polls that came together: less, so that widgets and instances that began at
/// once do not go on in step, and never later, so that nothing is noticed later for it.
pub(super) fn spread(distance: Duration, chance: f64) -> Duration {
    distance.mul_f64(1.0 - SPREAD * chance.clamp(0.0, 1.0))
}

/// How long after a poll a list is no longer fresh enough for an announcement to choose from.
pub(super) fn freshness(usual: Duration) -> Duration {
    (usual / FRESH_PART).max(FRESH.min(usual))
}

/// Whether an announcement may find a list that is older than it should.
pub(super) fn may_be_stale(usual: Duration, most: Duration) -> bool {
    usual.max(most) > freshness(usual)
}

/// The distance to a poll in time for an announcement, where the regular one would come too late
/// and the last one is too long ago by then.
pub(super) fn pulled(
    distance: Duration,
    least: Duration,
    until_announcement: Duration,
    took: Duration,
    chance: f64,
) -> Duration {
    let lead = LEAD.saturating_add(took.saturating_mul(2)).min(LONGEST_LEAD);
    // Several widgets have the same announcement.
    let start = until_announcement.saturating_sub(lead.mul_f64(1.0 + chance));
    if start >= least && start < distance { start } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_does_not_change_is_asked_for_a_tenth_of_that_time_apart_up_to_what_is_allowed() {
        let of = |most: u32, quiet: u32| stretched(S * 5, S * most, S * quiet);
        assert_eq!([of(0, 100_000), of(60, 0), of(60, 50)], [S * 5; 3]);
        assert_eq!((of(60, 300), of(60, 600), of(60, 86_400)), (S * 30, S * 60, S * 60));
        assert_eq!(stretched(S * 120, S * 60, S * 86_400), S * 120, "never closer than configured");
    }

    #[test]
    fn a_spread_only_ever_comes_sooner_and_by_a_quarter_at_most() {
        assert_eq!((spread(S * 20, 0.0), spread(S * 20, 1.0)), (S * 20, S * 15));
        assert_eq!(spread(S * 20, 0.5).as_millis(), 17_500);
        let century = S * 3_000_000_000;
        assert!(spread(century, 0.3) < century);
    }

    #[test]
    fn chance_depends_on_seed_list_and_number_and_on_nothing_else() {
        let (main, other) = ("main".parse().unwrap(), "other".parse().unwrap());
        let all = [
            chance(1, &main, ListKind::Rooms, 0),
            chance(1, &main, ListKind::Rooms, 1),
            chance(1, &main, ListKind::Users, 0),
            chance(1, &other, ListKind::Rooms, 0),
            chance(2, &main, ListKind::Rooms, 0),
        ];
        assert!(all.iter().all(|chance| (0.0..1.0).contains(chance)), "{all:?}");
        for (n, one) in all.iter().enumerate() {
            assert!(
                all.iter().skip(n + 1).all(|other| other.to_bits() != one.to_bits()),
                "{all:?}"
            );
        }
        assert_eq!(all[0].to_bits(), chance(1, &main, ListKind::Rooms, 0).to_bits());
    }

    #[test]
    fn a_poll_is_pulled_only_where_it_makes_a_list_fresh_that_would_not_be() {
        let minute = S * 60;
        let of = |until: u32| pulled(minute * 10, freshness(minute * 10), S * until, S, 0.0);
        assert_eq!(freshness(minute * 10), minute * 2);
        assert_eq!(of(300), S * 297, "a second, and twice as long as the last one took");
        assert_eq!(of(900), minute * 10, "the regular one comes first");
        assert_eq!(of(100), minute * 10, "the list is fresh enough then");
        assert_eq!(of(0), minute * 10);
        assert_eq!(freshness(S * 5), S * 5);
        assert_eq!(freshness(S), S, "never closer than configured");
        assert!(!may_be_stale(S * 5, Duration::ZERO) && may_be_stale(S * 5, S * 60));
        assert!(may_be_stale(S * 6, Duration::ZERO) && !may_be_stale(S, S));
    }
}
