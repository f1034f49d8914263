//! The choice of a backend: two at random, the one with fewer requests in flight.

/// A backend as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Requests now with it.
    pub in_flight: u32,
    /// Its share of the traffic relative to others; 0: only when all are 0.
    pub weight: u32,
    /// Whether it may be chosen (not tried already, not at its limit, not ejected).
    pub eligible: bool,
}

/// Chooses one of `n` candidates with two independent dice, or none when none is eligible.
///
/// Two are drawn, each with a probability by its weight, and the less loaded wins; when neither may be chosen, the least
/// loaded of all that may. Even weights (`even`) spare the walk over them.
pub fn pick(n: usize, even: bool, dice: (u32, u32), candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
    if n == 0 {
        return None;
    }
    let draw = |dice: u32| if even { scale(dice, n as u64) as usize } else { draw_by_weight(n, dice, &candidate) };
    let (first, mut second) = (draw(dice.0), draw(dice.1));
    if first == second && n > 1 && even {
        second = (first + 1) % n;
    }
    let (a, b) = (candidate(first), candidate(second));
    match (a.eligible && a.weight > 0, b.eligible && b.weight > 0) {
        (true, true) if lighter(&b, &a) => Some(second),
        (true, _) => Some(first),
        (_, true) => Some(second),
        _ => least(n, first, &candidate),
    }
}

/// A number below `below`, from 32 random bits.
fn scale(dice: u32, below: u64) -> u64 {
    (u64::from(dice) * below) >> 32
}

fn draw_by_weight(n: usize, dice: u32, candidate: &impl Fn(usize) -> Candidate) -> usize {
    let total: u64 = (0..n).map(|i| u64::from(candidate(i).weight)).sum();
    let mut left = scale(dice, total.max(1));
    for i in 0..n {
        let weight = u64::from(candidate(i).weight);
        if left < weight {
            return i;
        }
        left -= weight;
    }
    scale(dice, n as u64) as usize
}

/// Whether `a` has less to do than `b`, measured by their weights.
fn lighter(a: &Candidate, b: &Candidate) -> bool {
    u64::from(a.in_flight) * u64::from(b.weight.max(1)) < u64::from(b.in_flight) * u64::from(a.weight.max(1))
}

fn least(n: usize, start: usize, candidate: &impl Fn(usize) -> Candidate) -> Option<usize> {
    let eligible = (0..n).map(|i| (start + i) % n).map(|i| (i, candidate(i))).filter(|(_, c)| c.eligible);
    let better = |best: (usize, Candidate), other: (usize, Candidate)| {
        let wins = (best.1.weight == 0 && other.1.weight > 0)
            || ((best.1.weight == 0) == (other.1.weight == 0) && lighter(&other.1, &best.1));
        if wins { other } else { best }
    };
    eligible.reduce(better).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0u32..20, 0u32..4, any::<bool>());
        let one = one.prop_map(|(in_flight, weight, eligible)| Candidate { in_flight, weight, eligible });
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn only_an_eligible_one_is_picked_and_one_is_if_there_is_any(all in candidates(), dice: (u32, u32), even: bool) {
            match pick(all.len(), even, dice, |i| all[i]) {
                Some(i) => prop_assert!(all[i].eligible),
                None => prop_assert!(all.iter().all(|c| !c.eligible)),
            }
        }

        #[test]
        fn weight_zero_gets_nothing_while_another_may(all in candidates(), dice: (u32, u32), even: bool) {
            if let Some(i) = pick(all.len(), even, dice, |i| all[i]) {
                prop_assert!(all[i].weight > 0 || all.iter().all(|c| !c.eligible || c.weight == 0));
            }
        }

        #[test]
        fn of_two_the_less_loaded_wins(a in 0u32..100, b in 0u32..100, dice: (u32, u32)) {
            let all = [a, b].map(|in_flight| Candidate { in_flight, weight: 1, eligible: true });
            let picked = pick(2, true, dice, |i| all[i]).unwrap();
            prop_assert!(all[picked].in_flight == a.min(b));
        }
    }

    #[test]
    fn idle_backends_are_drawn_by_weight() {
        let all = [1, 3].map(|weight| Candidate { in_flight: 0, weight, eligible: true });
        let draws = (0..1_000u32).map(|n| n * (u32::MAX / 1_000));
        let second = draws.filter(|dice| pick(2, false, (*dice, 7), |i| all[i]) == Some(1)).count();
        assert!((740..=760).contains(&second), "{second} of 1000 for a share of 3/4");
    }
}
