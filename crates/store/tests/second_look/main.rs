//! A second look at the store: every case that goes through the trait runs in memory and on a file;
//! beside them what only a file shows, a model, and the plans of the statements.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

pub(crate) use imbabot_store::*;
mod attempts;
mod bench;
mod file;
mod inbox;
mod lanes;
mod model;
mod operations;
mod plans;
mod rates;
mod schedules;
mod snapshots;

macro_rules! cases {
    ($open:expr; $($module:ident { $($case:ident)* })*) => {
        $(mod $module { $(
            #[test]
            fn $case() {
                let bodies = if stringify!($case).starts_with("a_store_of_hashes") {
                    imbabot_store::Bodies::Hash
                } else {
                    imbabot_store::Bodies::Full
                };
                let (store, _guard) = $open(bodies);
                futures_executor::block_on(crate::$module::$case(store));
            }
        )* })*
    };
}
macro_rules! both {
    ($($tokens:tt)*) => {
        mod in_memory { cases! { crate::in_memory_store; $($tokens)* } }
        mod on_file { cases! { crate::on_file_store; $($tokens)* } }
    };
}
fn in_memory_store(bodies: Bodies) -> (std::sync::Arc<dyn Store>, ()) {
    (std::sync::Arc::new(SqliteStore::in_memory(bodies).unwrap()), ())
}
fn on_file_store(bodies: Bodies) -> (std::sync::Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("s.sqlite"), Role::Daemon, bodies).unwrap();
    (std::sync::Arc::new(store), folder)
}
both! {
    lanes { a_lane_goes_by_not_before_and_then_by_the_order_of_recording one_request_of_a_lane_is_on_its_way_and_the_next_waits_for_its_end what_is_recorded_in_front_of_a_request_on_its_way_waits_too lanes_are_widget_room_and_sender_and_never_wait_for_each_other a_backoff_blocks_its_own_lane_only an_unknown_blocks_its_lane_only_at_least_once_and_while_it_settles an_unknown_without_resends_left_no_longer_blocks_its_lane what_waits_behind_older_rows_says_so a_lane_of_thousands_is_claimed_head_by_head claiming_only_one_delivery_takes_that_one_or_nothing a_widget_that_is_not_named_is_left_alone_and_slots_are_kept }
    rates { requests_of_a_widget_keep_their_distance a_pause_brings_no_burst requests_to_a_room_keep_their_distance_and_other_rooms_do_not_wait a_widget_that_is_held_is_silent_and_a_shorter_hold_does_not_shorten_it a_hold_outlives_a_restart a_rate_outlives_a_restart a_clock_that_goes_back_stops_nobody claiming_one_delivery_keeps_the_distances_too }
    attempts { a_delivered_one_keeps_what_the_server_said a_retry_is_queued_again_and_counts_its_misses a_rejected_one_is_dead_and_its_lane_goes_on an_ambiguous_one_is_unknown_and_never_sent_again_by_itself a_late_answer_resolves_an_unknown_one an_answer_that_comes_twice_changes_nothing an_answer_to_an_earlier_attempt_does_not_end_the_present_one an_outcome_for_nobody_is_left_out what_contradicts_itself_proves_nothing the_uuid_of_another_delivery_is_no_confirmation at_least_once_is_repeated_a_bounded_number_of_times_and_says_so what_was_ambiguous_once_ends_only_as_delivered_or_unresolved what_is_expired_is_never_sent a_sweep_moves_what_time_moves_and_names_the_next_instant a_sweep_keeps_its_limit a_resend_that_comes_too_late_is_unresolved a_key_is_one_delivery a_key_with_another_text_room_or_widget_is_refused a_key_that_comes_twice_in_one_call_is_one_delivery what_is_born_dead_is_seen_and_never_sent a_crash_turns_sending_into_unknown_and_never_into_queued each_crash_in_flight_costs_a_resend a_clean_end_is_no_crash names_beyond_numbers_and_the_highest_ids_come_back_as_they_went a_store_of_hashes_keeps_no_text_after_the_end a_store_of_hashes_drops_the_text_when_no_resend_is_left }
    inbox { entries_of_a_room_are_told_one_after_the_other slots_are_kept a_retry_keeps_its_lane_and_its_count_until_it_is_poisoned a_poisoned_entry_that_is_tried_again_does_not_run_beside_its_lane of_two_poisoned_ones_the_older_goes_first a_late_word_of_a_handler_that_was_given_up_counts_for_nothing after_a_crash_the_suspects_run_alone a_suspect_of_a_paused_bot_holds_up_nobody a_clean_end_gives_the_try_back memory_is_compare_and_set_and_a_conflict_keeps_nothing a_version_is_not_used_again_after_its_key_was_removed limits_make_suppressed_rows_and_no_errors own_touches_do_not_reach_bots a_touch_by_an_attempt_of_which_nobody_knows_is_own removed_bots_are_told_nothing wakes_fire_once_and_may_be_replaced_and_cancelled a_handler_takes_back_only_what_is_still_queued a_bot_that_asked_is_told_what_became_of_its_messages a_report_to_a_bot_that_was_removed_waits_for_nobody an_event_for_nobody_is_nothing the_ledger_tells_of_an_entry_when_it_ends }
    schedules { a_new_schedule_starts_now_and_keeps_its_cursor a_cursor_moves_by_compare_and_set_and_never_back an_occurrence_is_recorded_once what_did_not_fire_is_counted_and_told a_trigger_leaves_the_cursor_alone pinned_rooms_are_served_from_every_position_without_doubling the_oldest_occurrence_is_served_first a_room_that_still_waits_is_left_out_for_overlap rooms_that_are_gone_are_no_overlap an_edited_schedule_goes_on_from_now_and_never_back a_removed_schedule_takes_back_what_it_had_queued a_cursor_a_day_ahead_is_set_to_now_and_says_so a_pause_of_a_schedule_is_kept }
    snapshots { a_baseline_stands_only_when_the_snapshot_is_whole lists_and_widgets_are_apart what_is_gone_may_return rooms_are_paged_ascending_up_to_the_highest_id a_selector_finds_what_it_chooses_over_many_pages }
    operations { pauses_hold_and_resuming_releases a_paused_bot_is_told_nothing cancelling_takes_only_what_is_queued a_retry_gives_its_content_its_time_again a_retry_of_what_may_have_arrived_needs_acceptance_and_is_marked an_operators_retry_costs_no_resend resolving_ends_only_what_is_unknown lists_are_newest_first_and_filtered the_ledger_only_grows_and_its_last_lines_are_the_present pruning_takes_the_old_and_finished_and_nothing_else many_poisoned_events_do_not_keep_the_others a_whole_store_is_whole }
}
