//! Which thread serves a new connection.
//!
//! The kernel deals connections out to the threads' sockets by a hash of the addresses, which knows nothing of what a thread has to
//! do: with few connections, or after many of one thread's have stayed and another's have left, one thread works while others wait.

/// Connections above the mean that are chance, and cost less than handing one over.
pub const SLACK: u64 = 8;

/// The thread that is to serve a connection which thread `me` has accepted, by the numbers of connections that the threads have
/// open: the one with the fewest if `me` is far above the mean (a quarter and [`SLACK`] more), else `me`.
pub fn place(me: usize, open: &[u64]) -> usize {
    let (mine, all) = (open[me], open.iter().sum::<u64>());
    let threads = open.len() as u64;
    // In whole numbers: mine > mean × 5/4 + SLACK.
    if mine.saturating_sub(SLACK).saturating_mul(4 * threads) <= all.saturating_mul(5) {
        return me;
    }
    (0..open.len()).min_by_key(|thread| open[*thread]).unwrap_or(me)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_thread_far_above_the_mean_hands_over_and_to_the_lightest() {
        assert_eq!(place(0, &[1_000]), 0, "there is no other");
        assert_eq!(place(0, &[48, 16]), 0, "within a quarter and the slack of 32");
        assert_eq!(place(0, &[50, 14]), 1);
        assert_eq!(place(1, &[50, 14]), 1);
        assert_eq!(place(2, &[30, 10, 90, 20]), 1);
        assert_eq!(place(0, &[8, 0, 0, 0]), 0, "few are not worth it");
        assert_eq!(place(0, &[700, 600]), 0, "chance");
    }

    proptest! {
        #[test]
        fn dealt_out_to_one_thread_all_get_their_share(threads in 1usize..9, connections in 0u64..2_000) {
            let mut open = vec![0u64; threads];
            for _ in 0..connections {
                let thread = place(0, &open);
                open[thread] += 1;
            }
            let mean = connections as f64 / threads as f64;
            prop_assert!(open.iter().all(|n| *n as f64 <= mean * 1.25 + SLACK as f64 + 1.0), "{open:?}");
        }

        #[test]
        fn a_connection_never_goes_to_a_busier_thread(open in proptest::collection::vec(0u64..5_000, 1..17), me: prop::sample::Index) {
            let me = me.index(open.len());
            prop_assert!(open[place(me, &open)] <= open[me]);
        }
    }
}
