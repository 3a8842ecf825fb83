//! What any backend has to do, written against the trait alone: a list of cases, each a function,
//! and three models that random sequences of verbs are compared with. A backend names itself as a
//! [`Backend`] in a test file and calls [`store_conformance!`](crate::store_conformance), which
//! makes a `#[test]` of every case. No case asks what time it is, sleeps, or needs a runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is a test suite")]

pub mod lifecycle;
pub mod outbox;
mod support;

use std::sync::Arc;

use crate::Store;

/// A backend under test.
pub trait Backend {
    /// A new store without anything in it, which keeps texts.
    fn empty(&self) -> Arc<dyn Store>;

    /// The same, but only the hash of a text stays once its delivery has ended.
    fn without_texts(&self) -> Arc<dyn Store>;

    /// How many random sequences each model runs: what makes a second or two.
    fn sequences(&self) -> u32;
}

/// Makes a `#[test]` of every case for the backend that the expression makes.
#[macro_export]
macro_rules! store_conformance {
    ($backend:expr) => {
        $crate::conformance_cases! { $backend, outbox:
            a_delivery_is_queued_sent_and_delivered
            the_same_key_is_the_same_delivery
            the_same_key_with_other_contents_is_refused
            a_row_can_be_born_dead
            a_lane_is_sent_in_order_and_one_at_a_time
            an_earlier_message_does_not_overtake_what_is_on_its_way
            a_message_queued_again_waits_for_what_is_on_its_way
            lanes_do_not_wait_for_each_other
            nothing_is_claimed_before_its_time
            requests_of_a_widget_are_evenly_spaced
            requests_to_a_room_are_evenly_spaced
            a_hold_stops_a_widget_until_it_ends
            a_clock_that_goes_back_stops_no_widget
            a_hold_is_honoured_after_the_clock_went_back
            what_has_expired_is_not_claimed
            a_flood_of_expired_rows_ends_in_several_claims
            what_was_not_applied_is_sent_again_in_its_time
            at_most_once_is_never_sent_again_by_itself
            at_least_once_is_repeated_as_often_as_allowed
            a_repetition_that_comes_too_late_is_not_sent
            whatever_ends_a_row_with_an_ambiguous_attempt_it_is_unresolved
            a_late_answer_says_what_became_of_an_unknown_one
            a_late_refusal_says_nothing_about_a_later_attempt
            the_outcome_of_an_attempt_is_recorded_once
            an_answer_to_an_earlier_attempt_moves_nothing
            an_answer_to_an_attempt_that_never_was_moves_nothing
            an_outcome_that_contradicts_itself_proves_nothing
            an_answer_that_names_another_message_is_not_for_us
            only_the_delivery_that_is_asked_for_is_claimed
            only_the_widgets_that_are_named_are_claimed_up_to_their_slots
            a_sweep_moves_at_most_its_limit_and_says_when_to_come_again
            a_bot_is_told_what_became_of_its_delivery
            a_text_goes_with_the_end_of_its_delivery_where_only_hashes_are_kept
            the_largest_numbers_are_kept
        }
        $crate::conformance_cases! { $backend, lifecycle:
            what_was_being_sent_is_unknown_after_a_kill
            a_kill_without_resends_left_ends_the_row
            runs_have_ascending_numbers_and_are_told_in_the_ledger
            a_graceful_stop_gives_tries_back
            the_end_of_a_run_that_ended_before_changes_nothing
            after_a_kill_what_was_in_flight_runs_alone_and_only_it_counts
            a_suspect_waits_until_nothing_else_runs
            a_suspect_of_a_bot_that_is_told_nothing_holds_nobody_up
            an_empty_store_may_be_changed_by_nobody
        }
    };
}

/// One `#[test]` per case of a module.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($backend:expr, $module:ident: $($case:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $case() {
                    imbabot_store::conformance::$module::$case(&$backend);
                }
            )+
        }
    };
}
