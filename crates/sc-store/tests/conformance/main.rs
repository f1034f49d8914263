//! One suite for every implementation of [`sc_store::Store`], then what only etcd can go through.

mod cases;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "etcd")]
mod etcd_faults;
#[cfg(feature = "etcd")]
mod etcd_server;
mod kill;

use sc_store::{Disk, Memory, Store};

/// Runs one case on each implementation that needs no server.
macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $case() { super::cases::$case(std::sync::Arc::new(super::Memory::new())).await; })*
        }
        mod disk {
            $(#[tokio::test] async fn $case() {
                let folder = tempfile::tempdir().expect("a folder");
                let store: std::sync::Arc<dyn super::Store> =
                    std::sync::Arc::new(super::Disk::open(folder.path().join("store.redb")).expect("a store"));
                super::cases::$case(store).await;
            })*
        }
        /// Every case, for implementations where a start costs more.
        #[cfg(feature = "etcd")]
        async fn all(store: impl Fn(&str) -> std::sync::Arc<dyn Store>) {
            $(cases::$case(store(stringify!($case))).await;)*
        }
    };
}

suite!(
    a_commit_happens_whole_or_not_at_all,
    expectations_of_presence_and_absence,
    revisions_only_grow,
    a_fence_holds_while_the_leader_is_the_same,
    a_commit_without_writes_only_checks,
    deleting_what_is_not_there_is_no_error,
    too_many_operations_are_refused,
    too_many_bytes_are_refused,
    one_commit_writes_a_key_once,
    a_large_state_is_loaded_whole,
    values_are_bytes_and_may_be_large,
    prefixes_are_kept_apart,
    many_keys_are_loaded_whole,
    concurrent_increments_lose_nothing,
    a_watch_sees_every_commit_in_order,
    watches_share_nothing,
    a_watch_begins_where_it_is_told,
    a_watch_can_be_left_and_taken_up,
    a_lease_takes_its_keys_with_it,
    a_renewed_lease_lives_on,
    a_revoked_lease_is_gone,
);
