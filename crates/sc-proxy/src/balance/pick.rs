//! The choice of a backend: of two at random the one where a request costs less, or one after the other.

use std::cmp::Ordering;

/// A backend as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Requests now with it.
    pub in_flight: u32,
    /// How long its answers take, in any unit; the same for all: only requests in flight count. At least 1.
    pub latency: u32,
    /// Its share of the traffic relative to others; 0: only when all are 0.
    pub weight: u32,
    /// Whether it may be chosen (not tried already, not at its limit, not ejected).
    pub eligible: bool,
}

/// Chooses one of `n` candidates with two independent dice, or none when none is eligible.
///
/// Two are drawn, each with a probability by its weight, and the cheaper wins; when neither may be chosen, the cheapest of
/// all that may. Even weights (`even`) spare the walk over them.
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
    match (a.serves(), b.serves()) {
        (true, true) if lighter(&b, &a) => Some(second),
        (true, _) => Some(first),
        (_, true) => Some(second),
        _ => least(n, first, &candidate),
    }
}

/// Draws one of some groups, each with a probability by its weight.
pub fn draw(weights: impl Iterator<Item = u64> + Clone, dice: u32) -> Option<usize> {
    let mut left = scale(dice, weights.clone().sum());
    { weights }.position(|weight| {
        let drawn = left < weight;
        left = left.saturating_sub(weight);
        drawn
    })
}

/// The die of a turn: steps of the golden ratio round the circle, so that each prefix of the turns is spread over it
/// evenly.
pub fn die_of_turn(turn: u32) -> u32 {
    turn.wrapping_mul(0x9e37_79b9)
}

/// Chooses one after the other, by weight: the `turn`th request's backend, or the next one that may be chosen.
pub fn pick_in_turn(n: usize, even: bool, turn: u32, candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
    if n == 0 {
        return None;
    }
    let spread = || draw_by_weight(n, die_of_turn(turn), &candidate);
    let first = if even { turn as usize % n } else { spread() };
    (0..n).map(|i| (first + i) % n).find(|i| candidate(*i).serves()).or_else(|| least(n, first, &candidate))
}

/// Chooses the cheapest of all, by weight; among equal ones with a die.
pub fn pick_least(n: usize, dice: u32, candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
    least(n, scale(dice, n as u64) as usize, &candidate)
}

/// The median of what is known of some backends' latency: what one counts with that has not answered yet, so that it is
/// neither stampeded nor left out. 1 when nothing is known.
pub fn median(mut known: Vec<u32>) -> u32 {
    let middle = known.len() / 2;
    if known.is_empty() { 1 } else { *known.select_nth_unstable(middle).1 }
}

/// A weight while its backend is starting slowly: from a tenth to all of it within `span` (milliseconds), in fixed point.
pub fn warming(weight: u32, age: u64, span: u64) -> u32 {
    let share = if age >= span { 1_000 } else { (age * 1_000 / span).max(100) };
    u32::try_from(u64::from(weight) * share).unwrap_or(u32::MAX)
}

impl Candidate {
    fn serves(&self) -> bool {
        self.eligible && self.weight > 0
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

/// Whether a request would cost less with `a` than with `b`.
fn lighter(a: &Candidate, b: &Candidate) -> bool {
    compare(a, b) == Ordering::Less
}

/// Cost: latency times the requests there would be, those in flight relative to the larger of the two weights. Idle ones
/// are drawn by weight already and compare by latency alone.
fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    let weights = [a, b].map(|c| u128::from(c.weight.max(1)));
    let most = weights[0].max(weights[1]);
    let cost = |c: &Candidate, own: u128, other: u128| {
        u128::from(c.latency.max(1)) * (own + u128::from(c.in_flight) * most) * other
    };
    cost(a, weights[0], weights[1]).cmp(&cost(b, weights[1], weights[0]))
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
        let one = one.prop_map(|(in_flight, weight, eligible)| Candidate { in_flight, latency: 1, weight, eligible });
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
            let all = [a, b].map(|in_flight| Candidate { in_flight, latency: 1, weight: 1, eligible: true });
            let picked = pick(2, true, dice, |i| all[i]).unwrap();
            prop_assert!(all[picked].in_flight == a.min(b));
        }
    }

    #[test]
    fn turns_are_taken_by_weight() {
        let all = [1, 3, 0].map(|weight| Candidate { in_flight: 0, latency: 1, weight, eligible: true });
        let mut turns = [0; 3];
        (0..400).for_each(|turn| turns[pick_in_turn(3, false, turn, |i| all[i]).unwrap()] += 1);
        assert!(turns[2] == 0 && (98..=102).contains(&turns[0]), "{turns:?}");
        let even: Vec<_> = (0..4).map(|turn| pick_in_turn(2, true, turn, |_| all[0]).unwrap()).collect();
        assert_eq!(even, [0, 1, 0, 1]);
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let shares = [0, 50, 100, 500, 1_000, 9_000].map(|age| warming(2, age, 1_000));
        assert_eq!(shares, [200, 200, 200, 1_000, 2_000, 2_000]);
        assert_eq!((median(vec![]), median(vec![7]), median(vec![9, 1, 5])), (1, 7, 5));
    }

    #[test]
    fn idle_backends_are_drawn_by_weight() {
        let all = [1, 3].map(|weight| Candidate { in_flight: 0, latency: 1, weight, eligible: true });
        let draws = (0..1_000u32).map(|n| n * (u32::MAX / 1_000));
        let second = draws.filter(|dice| pick(2, false, (*dice, 7), |i| all[i]) == Some(1)).count();
        assert!((740..=760).contains(&second), "{second} of 1000 for a share of 3/4");
    }
}
