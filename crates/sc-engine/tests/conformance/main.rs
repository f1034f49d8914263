//! One suite over every engine: the fake, child processes, Docker.

mod cases;
#[cfg(feature = "docker")]
mod docker;
mod fake;
mod process;
mod subject;

/// Makes each case a test of one engine.
macro_rules! suite {
    ($make:expr, $how:tt, [$($case:ident),* $(,)?]) => {
        $(
            #[tokio::test $how]
            async fn $case() {
                let subject = $make;
                let case = std::panic::AssertUnwindSafe($crate::cases::$case(&subject));
                let result = futures_util::FutureExt::catch_unwind(case).await;
                $crate::subject::Subject::clean(&subject).await;
                if let Err(panic) = result {
                    std::panic::resume_unwind(panic);
                }
            }
        )*
    };
}
pub(crate) use suite;

/// The cases of every engine.
macro_rules! all_cases {
    ($make:expr, $how:tt) => {
        $crate::suite!(
            $make,
            $how,
            [
                starts_with_version_and_address,
                start_twice_is_one,
                starts_at_once_are_one,
                stop_removes_and_absent_is_fine,
                a_stubborn_one_is_killed,
                an_end_is_seen_with_its_log,
                logs_outlive_the_replica,
                a_followed_log_ends_with_the_replica,
                too_much_memory_is_said,
                a_missing_program_is_refused,
                a_file_that_is_no_program_is_refused,
                an_unknown_image_is_refused,
                pauses_and_wakes,
                parks_and_revives,
                a_parked_one_that_sleeps_is_stopped_and_one_that_is_unknown_is_said,
                another_handle_adopts,
                a_killed_process_is_seen,
                exec_gives_status_and_takes_input,
                copies_in_and_out,
                usage_grows,
                unknown_replicas_are_said,
                many_at_once,
            ]
        );
    };
}
pub(crate) use all_cases;
