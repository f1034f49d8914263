//! A token bucket in one number: pure.

use sc_core::spec::Rate;

/// How fast a bucket fills, and how much it holds.
///
/// A bucket is the time at which it will be full again, in nanoseconds: what is in the past is full. A token pushes that time on
/// by the time that one takes to come (the generic cell rate algorithm, ITU-T I.371 annex A). So unused tokens never exceed the
/// burst, a clock that goes back gives nothing away, and one atomic number is all there is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Time in which one token comes.
    token: u64,
    /// Time in which all but one token come.
    slack: u64,
}

impl Bucket {
    /// As an app asks for it. The time of a token is rounded up: never is more let through than asked.
    pub fn new(rate: &Rate) -> Self {
        let token = (u128::from(rate.per_ms) * 1_000_000).div_ceil(u128::from(rate.requests.max(1)));
        let slack = token * u128::from(rate.burst().max(1) - 1);
        let fit = |nanos: u128| u64::try_from(nanos).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        Self { token: fit(token), slack: fit(slack) }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How many nanoseconds from `now` there will be one.
    pub fn take(self, full_at: u64, now: u64) -> Result<u64, u64> {
        let missing = full_at.saturating_sub(now);
        if missing > self.slack { Err(missing - self.slack) } else { Ok(now + missing + self.token) }
    }

    /// Takes a token whether there is one or not; the bucket is never more than empty.
    pub fn charge(self, full_at: u64, now: u64) -> u64 {
        let missing = full_at.saturating_sub(now);
        now + (missing + self.token).min(self.slack + self.token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sc_core::spec::ClientKey;

    use super::*;

    fn rate() -> impl Strategy<Value = Rate> {
        let fields = (1u32..50, 1u64..5_000, proptest::option::of(1u32..100));
        fields.prop_map(|(requests, per_ms, burst)| Rate { requests, per_ms, burst, by: ClientKey::Address })
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_has_come_since(
            rate in rate(),
            gaps in proptest::collection::vec(0u64..300_000_000, 1..200),
        ) {
            let (bucket, mut full_at, mut now, mut taken) = (Bucket::new(&rate), 0, 1, Vec::new());
            for gap in gaps {
                now += gap;
                if let Ok(next) = bucket.take(full_at, now) {
                    full_at = next;
                    taken.push(now);
                }
            }
            for (i, start) in taken.iter().enumerate() {
                for (j, end) in taken.iter().enumerate().skip(i) {
                    let come = u128::from(end - start) * u128::from(rate.requests) / (u128::from(rate.per_ms) * 1_000_000);
                    prop_assert!((j - i + 1) as u128 <= u128::from(rate.burst()) + come);
                }
            }
        }

        #[test]
        fn it_is_a_bucket_of_tokens(rate in rate(), gaps in proptest::collection::vec(0u64..300_000_000, 1..200)) {
            let (bucket, mut full_at, mut now) = (Bucket::new(&rate), 0, 1);
            // The same in small change: a token is worth `bucket.token`.
            let most = u128::from(bucket.token) * u128::from(rate.burst());
            let mut purse = most;
            for gap in gaps {
                now += gap;
                purse = (purse + u128::from(gap)).min(most);
                let took = bucket.take(full_at, now);
                prop_assert_eq!(took.is_ok(), purse >= u128::from(bucket.token));
                match took {
                    Ok(next) => (full_at, purse) = (next, purse - u128::from(bucket.token)),
                    Err(wait) => prop_assert!(bucket.take(full_at, now + wait).is_ok() && bucket.take(full_at, now + wait - 1).is_err()),
                }
            }
        }

        #[test]
        fn a_clock_that_goes_back_gives_nothing_away(rate in rate(), times in proptest::collection::vec(0u64..1_000_000_000, 1..200)) {
            let (bucket, mut full_at, mut taken) = (Bucket::new(&rate), 0, 0u64);
            for now in &times {
                if let Ok(next) = bucket.take(full_at, *now) {
                    prop_assert!(next > full_at);
                    (full_at, taken) = (next, taken + 1);
                }
            }
            let latest = times.iter().max().unwrap();
            prop_assert!(taken <= u64::from(rate.burst()) + latest / bucket.token);
        }

        #[test]
        fn a_charge_is_no_less_than_a_token_and_no_more_than_empty(rate in rate(), full_at in 0u64..1 << 40, now in 0u64..1 << 40) {
            let (bucket, empty) = (Bucket::new(&rate), now + Bucket::new(&rate).slack + Bucket::new(&rate).token);
            let charged = bucket.charge(full_at, now);
            prop_assert!(charged <= empty);
            prop_assert!(bucket.take(full_at, now).is_err() || bucket.take(full_at, now) == Ok(charged));
        }
    }
}
