//! What any backend has to do, written against the trait alone: a list of cases, each a function,
//! and three models that random sequences of verbs are compared with. A backend names itself as a
//! [`Backend`] in a test file and calls [`store_conformance!`](crate::store_conformance), which
//! makes a `#[test]` of every case. No case asks what time it is, sleeps, or needs a runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is a test suite")]

pub mod capabilities;
pub mod explanations;
pub mod inbox;
pub mod inbox_model;
pub mod ledger;
pub mod lifecycle;
pub mod operations;
pub mod outbox;
pub mod outbox_model;
pub mod schedules;
pub mod schedules_model;
pub mod snapshots;
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

/// Makes a `#[test]` of every case for the backend that the expression makes; with
/// `if let Some(x) = search() => backend` only where the search finds something.
#[macro_export]
macro_rules! store_conformance {
    (if let Some($found:ident) = $search:expr => $backend:expr) => {
        $crate::conformance_cases! { if let Some($found) = $search => $backend, outbox:
            a_delivery_is_queued_sent_and_delivered
            the_same_key_is_the_same_delivery
            the_same_key_with_other_contents_is_refused
            a_row_can_be_born_dead
            a_lane_is_sent_in_order_and_one_at_a_time
            an_earlier_message_does_not_overtake_what_is_on_its_way
            a_message_queued_again_waits_for_what_is_on_its_way
            lanes_do_not_wait_for_each_other
            a_lane_with_many_waiting_lets_others_have_their_turn
            a_lane_that_had_its_turn_goes_behind_those_that_wait
            nothing_is_claimed_before_its_time
            requests_of_a_widget_are_evenly_spaced
            requests_to_a_room_are_evenly_spaced
            a_hold_stops_a_widget_until_it_ends
            a_clock_that_goes_back_stops_no_widget
            a_hold_is_honoured_after_the_clock_went_back
            what_was_queued_under_a_clock_ahead_leaves_when_the_clock_is_right
            what_became_first_under_a_clock_ahead_leaves_when_the_clock_is_right
            what_has_a_time_of_its_own_waits_for_it_by_every_clock
            a_repetition_under_a_clock_ahead_waits_no_longer_than_it_would_have
            what_became_unknown_under_a_clock_ahead_waits_anew_by_the_right_one
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
        $crate::conformance_cases! { if let Some($found) = $search => $backend, outbox_model:
            any_sequence_of_verbs_keeps_to_the_state_machine
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, lifecycle:
            what_was_being_sent_is_unknown_after_a_kill
            a_kill_without_resends_left_ends_the_row
            runs_have_ascending_numbers_and_are_told_in_the_ledger
            a_graceful_stop_gives_tries_back
            the_end_of_a_run_that_ended_before_changes_nothing
            after_a_kill_what_was_in_flight_runs_alone_and_only_it_counts
            a_suspect_waits_until_nothing_else_runs
            a_suspect_of_a_bot_that_is_told_nothing_holds_nobody_up
            an_empty_store_may_be_changed_by_nobody
            what_nobody_waits_for_any_more_is_unknown
            the_name_of_a_widget_belongs_to_one_number
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, inbox:
            entries_of_a_lane_are_handled_in_order
            what_was_seen_under_a_clock_ahead_is_told_when_the_clock_is_right
            bots_are_told_independently
            an_event_for_nobody_leaves_nothing
            no_more_is_handed_out_than_a_bot_can_take
            a_try_is_counted_before_the_handler_runs
            a_failed_entry_is_tried_again_in_its_time_and_its_lane_waits
            the_whole_effect_of_a_handler_is_committed
            a_conflict_of_memory_keeps_nothing_and_gives_the_try_back
            a_version_of_memory_is_never_used_twice
            a_try_that_was_given_up_decides_nothing_any_more
            a_poisoned_entry_can_be_tried_again
            a_revived_entry_does_not_run_beside_a_later_one
            a_revived_entry_has_its_turn_first_whatever_stops_the_later_one
            what_nobody_handles_any_more_waits_again_with_its_try
            an_entry_that_had_no_turn_waits_again_with_its_try
            a_revived_entry_goes_before_later_ones_that_wait
            a_later_poisoned_entry_waits_for_an_earlier_one
            what_limits_refuse_is_visible_and_no_error
            a_key_that_is_known_counts_against_no_limit
            a_bot_takes_back_messages_and_timers_by_key
            a_wake_rings_once
            a_bot_that_is_gone_is_told_nothing_any_more
            a_paused_bot_is_told_nothing
            numbers_of_events_are_never_used_twice
            a_touch_by_our_own_message_reaches_no_bot
            a_touch_waits_while_a_message_of_ours_is_on_its_way
            a_touch_during_an_unresolved_attempt_is_our_own
            a_touch_during_an_unresolved_attempt_is_told_by_the_servers_clock
            a_touch_without_a_time_is_told
            every_kind_of_event_comes_back_as_it_was_put_in
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, inbox_model:
            any_sequence_of_verbs_tells_every_bot_everything_in_order
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, schedules:
            a_new_schedule_starts_now
            a_step_that_was_computed_from_elsewhere_does_nothing
            a_cursor_never_moves_back
            an_occurrence_fires_once
            one_more_can_be_triggered_without_the_cursor
            pinned_rooms_are_served_once_over_kills_at_every_position
            the_oldest_occurrence_is_served_first_and_over_several_widgets
            a_run_can_be_ended_earlier_than_it_was_recorded
            rooms_of_several_occurrences_are_read_together_up_to_a_bound
            a_room_in_which_an_earlier_one_waits_is_left_out
            an_earlier_one_that_has_expired_holds_up_no_room
            rooms_that_are_gone_meanwhile_are_not_counted
            an_edited_schedule_goes_on_from_now
            a_cursor_of_a_wrong_clock_is_set_to_now
            a_schedule_that_is_gone_takes_its_queue_along
            a_schedule_that_is_gone_before_it_reached_a_room_was_skipped
            a_schedule_that_comes_back_backfills_nothing
            a_schedule_can_be_paused
            what_did_not_fire_is_counted_and_told
            a_schedule_of_a_bot_tells_the_bot_once
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, schedules_model:
            any_sequence_of_verbs_serves_every_room_once
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, snapshots:
            a_snapshot_is_the_baseline_once_it_is_whole
            what_is_gone_is_remembered_and_not_listed
            an_index_of_any_length_comes_whole_and_in_order
            rooms_come_in_pages_by_ascending_number_to_the_largest
            a_selector_chooses_among_all_rooms
            users_are_kept_beside_rooms
            a_room_and_its_events_are_committed_together
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, capabilities:
            what_was_learned_replaces_what_the_same_source_knew_of_that_widget
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, operations:
            a_pause_holds_from_the_moment_it_is_committed
            a_pause_in_the_instant_of_the_one_before_holds_as_well
            a_paused_bot_holds_its_lane_and_no_other
            what_is_not_done_is_listed_by_what_presses_most
            deliveries_are_listed_newest_first
            only_what_is_queued_is_cancelled
            a_retry_needs_the_word_that_a_duplicate_is_accepted
            a_retry_starts_the_time_that_the_content_keeps_anew
            a_retry_by_a_person_uses_up_no_repetition
            a_person_resolves_what_is_unknown_and_nothing_else
            a_lane_goes_on_when_what_it_waited_for_is_resolved
            counts_are_what_a_recount_finds
            pruning_takes_what_is_old_and_finished
            pruning_keeps_what_is_still_needed
            many_poisoned_entries_do_not_stop_the_pruning
            an_occurrence_does_not_fire_again_after_it_was_pruned
            old_occurrences_become_runs_that_do_not_overlap
            a_schedule_that_always_fires_is_one_run_after_years
            a_record_goes_with_all_its_lines_at_once
            a_new_store_is_whole
            a_message_that_another_person_cancels_meanwhile_is_settled_as_it_went
            the_last_sign_of_life_is_kept_over_runs_and_is_no_part_of_the_ledger
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, explanations:
            an_attempt_that_leaves_at_once_was_held_by_nothing
            an_attempt_says_what_held_it_last
            a_message_says_that_it_waited_for_the_one_before_it
            an_attempt_says_that_the_server_had_asked_for_silence
            an_attempt_says_that_it_was_stopped
            the_pause_of_one_bot_explains_no_wait_of_another
            an_attempt_says_that_nobody_was_there
            a_breaker_is_told_once_and_ends_with_the_run
            what_stops_sending_now_is_told_until_it_ends
            the_story_of_a_delivery_has_all_that_happened_to_it
            a_queued_delivery_says_what_it_waits_for
            why_a_row_was_born_dead_is_kept
            the_server_s_words_are_not_kept_where_no_texts_are
            the_story_of_an_occurrence_has_its_deliveries_and_what_was_left_out
            the_story_of_a_schedule_has_its_latest_instant_and_its_pause
        }
        $crate::conformance_cases! { if let Some($found) = $search => $backend, ledger:
            lines_ascend_and_are_never_rewritten
            it_is_read_in_pages_from_anywhere
            the_last_line_of_a_delivery_is_the_delivery
            every_attempt_has_a_line_when_it_starts_and_when_it_ends
            a_line_reads_what_it_writes
            no_record_stands_otherwise_than_its_last_line
        }
    };
    ($backend:expr) => {
        $crate::store_conformance! { if let Some(backend) = Some($backend) => backend }
    };
}

/// One `#[test]` per case of a module.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    (if let Some($found:ident) = $search:expr => $backend:expr, $module:ident: $($case:ident)+) => {
        mod $module {
            #[allow(unused_imports, reason = "what the search is made of")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    if let Some($found) = $search {
                        imbabot_store::conformance::$module::$case(&$backend);
                    }
                }
            )+
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_list() {
        let list = include_str!("conformance.rs");
        let files = [
            include_str!("conformance/explanations.rs"),
            include_str!("conformance/inbox.rs"),
            include_str!("conformance/inbox_model.rs"),
            include_str!("conformance/ledger.rs"),
            include_str!("conformance/lifecycle.rs"),
            include_str!("conformance/operations.rs"),
            include_str!("conformance/outbox.rs"),
            include_str!("conformance/outbox_model.rs"),
            include_str!("conformance/schedules.rs"),
            include_str!("conformance/schedules_model.rs"),
            include_str!("conformance/snapshots.rs"),
        ];
        let cases = files.iter().flat_map(|file| file.lines());
        let cases = cases.filter_map(|line| line.strip_prefix("pub fn ")?.split('(').next());
        let cases: Vec<&str> = cases.collect();
        assert!(cases.len() > 100);
        for case in cases {
            assert!(list.lines().any(|line| line.trim() == case), "{case} is not run");
        }
    }
}
