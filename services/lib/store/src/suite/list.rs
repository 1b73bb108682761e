//! The names of the suite's functions.

/// Makes a test of every function of the suite. `$subject` gives a fresh [`Subject`](crate::suite::Subject), as a future.
#[macro_export]
macro_rules! store_suite {
    ($subject:expr) => {
        $crate::list_tests! { $subject,
            heads: two_writers_race_for_one_head, eight_writers_race_for_one_head, a_fence_stops_an_append_that_starts_after_it,
                a_fence_and_an_append_race, a_bucket_rolls_over, a_full_bucket_is_fenced_under_a_stale_writer;
            batches: all_or_nothing, a_refusal_gives_the_row_back, a_condition_on_another_row, ranges_are_deleted_with_the_write,
                kinds_are_kept_apart, what_cql_could_not_say_is_refused;
            projections: the_greatest_stamp_stays_in_every_order, equal_stamps_keep_the_greater_row,
                racing_projections_end_in_the_greatest, the_lowest_stamp_is_kept_until_a_greater_one;
            plain: the_last_write_stays, deleted_rows_are_gone, rows_live_as_long_as_they_may,
                partitions_do_not_touch_each_other, a_dropped_partition_is_empty;
            paging: a_long_partition_is_paged_both_ways, a_long_descending_partition_is_paged_both_ways,
                bounds_mean_what_they_say, values_sort_by_number_and_bytes, large_rows_make_short_pages;
            limits: values_at_and_over_their_limit, keys_at_and_over_their_limit, edge_values_come_back;
        }
    };
}

/// Makes a test of every function of the suite that opens the store again.
#[macro_export]
macro_rules! durable_store_suite {
    ($subject:expr) => {
        $crate::list_tests! { $subject,
            durable: what_was_acknowledged_is_there_after_reopening, what_an_append_names_is_there_with_it,
                many_writers_share_commits_and_lose_nothing;
        }
    };
}

/// Makes the tests of a list.
#[doc(hidden)]
#[macro_export]
macro_rules! list_tests {
    ($subject:expr, $($module:ident: $($name:ident),*;)*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::suite::$module::$name($subject.await).await;
            })*
        })*
    };
}
