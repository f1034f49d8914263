//! How many requests per second to be ready for: what comes in now, and what will when a replica asked for now serves.

use crate::window::Window;

/// Spans in seconds over which a line is laid through the arrivals: a short one sees a bend soon, a long one sees a
/// slow rise through the noise.
const SPANS: [usize; 3] = [5, 10, 20];

/// Standard deviations of doubt that are taken off a jump before it is believed.
const DOUBT: f64 = 2.0;

/// The same for the slope of a line. Three lines are tried every second, and a rise of chance is kept for the hold time:
/// with two deviations one would come every quarter of a minute, with these once a minute.
const LINE_DOUBT: f64 = 2.5;

/// Longest horizon in seconds: a line is not carried on for longer than it was seen.
const HORIZON_MAX: f64 = 20.0;

/// Requests per second, now and soon.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Demand {
    /// What comes in now: the mean of the last 10 s, less where it falls beyond doubt, or what the last seconds show beyond
    /// doubt, if that is more.
    pub now: f64,
    /// What is to be expected when a replica asked for now serves: `now`, with a rise carried on that is beyond doubt.
    pub soon: f64,
}

/// Looks `horizon` seconds ahead. None without data of the last 10 seconds.
pub fn forecast(window: &Window, at_ms: u64, horizon: f64) -> Option<Demand> {
    let mut seconds = [0.0; SPANS[2]];
    let mut n = 0;
    for (slot, sample) in seconds.iter_mut().zip(window.last(at_ms, SPANS[2] as u64)) {
        *slot = sample.arrivals; // Newest first.
        n += 1;
    }
    let seconds = &seconds[..n];
    let recent = &seconds[..n.min(10)];
    if recent.is_empty() {
        return None;
    }
    let strays = strays(window, at_ms);
    let ten = fallen(mean(recent), recent.len(), seconds, strays);
    let surely = |n: usize| seconds.get(..n).map_or(0.0, sure);
    let now = ten.max(surely(1)).max(surely(2)).max(surely(4));
    let ahead = horizon.clamp(0.0, HORIZON_MAX);
    let lines = SPANS.iter().filter_map(|span| Line::through(seconds.get(..*span)?, strays));
    Some(Demand { now, soon: lines.map(|line| line.risen(ahead)).fold(now, f64::max) })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The least rate that these seconds can be explained with: independent arrivals vary by their square root.
fn sure(values: &[f64]) -> f64 {
    let mean = mean(values);
    (mean - DOUBT * (mean / values.len() as f64).sqrt()).max(0.0)
}

/// Seconds over which it is seen how far single ones stray.
const STRAY_SECONDS: usize = 60;

/// Standard deviation of a second's arrivals about their course, whatever that is: by how far each lies off the middle of its
/// neighbours, in the middle of all, so that a few jumps and bends do not count. A line through five seconds of a load like that
/// looks steep and straight a few times a minute. 0 where too few seconds were seen to tell.
fn strays(window: &Window, at_ms: u64) -> f64 {
    let mut bends = [0.0; STRAY_SECONDS];
    let (mut n, mut later) = (0, [f64::NAN; 2]);
    for sample in window.last(at_ms, STRAY_SECONDS as u64).take(STRAY_SECONDS) {
        let bend = (later[0] - 2.0 * later[1] + sample.arrivals).abs();
        later = [later[1], sample.arrivals];
        if bend.is_finite() {
            bends[n] = bend;
            n += 1;
        }
    }
    if n < 10 {
        return 0.0;
    }
    // Such a bend has six times a second's variance, and 0.6745 deviations are the middle of what is normal.
    *bends[..n].select_nth_unstable_by(n / 2, f64::total_cmp).1 / (0.6745 * 6f64.sqrt())
}

/// How far the mean of so many seconds may lie off their course by chance.
pub(crate) fn chance(window: &Window, at_ms: u64, seconds: u32) -> f64 {
    DOUBT * strays(window, at_ms) / f64::from(seconds).sqrt()
}

/// The line of least squares through some seconds.
struct Line {
    /// Their mean: the line's height at their middle.
    mean: f64,
    /// Seconds from their middle to the newest.
    middle: f64,
    /// Requests per second more in each second.
    slope: f64,
    /// Standard deviations of doubt about that: at least as for independent arrivals, and as for what strayed in the last minute.
    doubt: f64,
}

impl Line {
    /// Of seconds, newest first, at least three, which stray from their course by so much. None where a jump from one level to
    /// another explains them better: that is no line to carry on.
    fn through(values: &[f64], strays: f64) -> Option<Self> {
        let n = values.len() as f64;
        let (mean, middle) = (mean(values), (n - 1.0) / 2.0);
        let spread = n * (n * n - 1.0) / 12.0;
        let slope = values.iter().enumerate().map(|(age, v)| (middle - age as f64) * v).sum::<f64>() / spread;
        let residue = |(age, v): (usize, &f64)| {
            let off = v - mean - slope * (middle - age as f64);
            off * off
        };
        let residues = values.iter().enumerate().map(residue).sum::<f64>();
        let doubt = LINE_DOUBT * ((residues / (n - 2.0)).max(mean).max(strays * strays) / spread).sqrt();
        (slope * slope * spread >= between_levels(values, mean)).then_some(Self { mean, middle, slope, doubt })
    }

    /// Carried on by `ahead` seconds, where it rises: its slope lessened by the doubt about it.
    fn risen(&self, ahead: f64) -> f64 {
        if self.slope <= 0.0 { 0.0 } else { self.mean + (self.slope - self.doubt).max(0.0) * (self.middle + ahead) }
    }
}

/// The mean of the last seconds, carried on from their middle to now by a fall that all seconds show beyond doubt. A
/// mean alone would be paid for some seconds longer than the load was there.
fn fallen(mean: f64, n: usize, seconds: &[f64], strays: f64) -> f64 {
    let line =
        seconds.get(..SPANS[2]).and_then(|seconds| Line::through(seconds, strays)).filter(|line| line.slope < 0.0);
    let age = (n as f64 - 1.0) / 2.0;
    line.map_or(mean, |line| mean.min((mean + line.slope * age).max(0.0) + line.doubt * age))
}

/// How much of the sum of squares the best single jump explains.
fn between_levels(values: &[f64], mean: f64) -> f64 {
    let n = values.len() as f64;
    let (mut most, mut sum) = (0.0f64, 0.0);
    for (age, value) in values[..values.len() - 1].iter().enumerate() {
        sum += value - mean;
        let k = age as f64 + 1.0;
        most = most.max(sum * sum * n / (k * (n - k)));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    fn demand(rates: &[f64], horizon: f64) -> Demand {
        let mut window = Window::default();
        for (second, arrivals) in rates.iter().enumerate() {
            window.push(Sample { at_ms: 1_000 * (second as u64 + 1), arrivals: *arrivals, ..Sample::default() });
        }
        forecast(&window, 1_000 * rates.len() as u64, horizon).unwrap()
    }

    #[test]
    fn constant_load_is_what_it_is() {
        assert_eq!(demand(&[100.0; 30], 10.0), Demand { now: 100.0, soon: 100.0 });
    }

    #[test]
    fn a_steady_rise_is_carried_on() {
        let rates: Vec<f64> = (0..30).map(|s| 5_000.0 + 100.0 * f64::from(s)).collect();
        let soon = demand(&rates, 10.0).soon;
        assert!((8_300.0..=9_000.0).contains(&soon), "7900 now, 8900 in 10 s: {soon}");
    }

    #[test]
    fn a_steady_fall_is_followed() {
        let rates: Vec<f64> = (0..30).map(|s| 8_000.0 - 100.0 * f64::from(s)).collect();
        let Demand { now, soon } = demand(&rates, 10.0);
        assert!(now == soon && (5_100.0..5_400.0).contains(&now), "5100 now, 5550 in the mean: {now}");
    }

    #[test]
    fn a_jump_is_believed_at_once_and_not_carried_on() {
        let mut rates = vec![100.0; 29];
        rates.push(1_000.0);
        let jump = demand(&rates, 10.0);
        assert!((900.0..=1_000.0).contains(&jump.now) && jump.soon <= 1_100.0, "{jump:?}");
        rates.extend([1_000.0; 4]);
        let after = demand(&rates, 10.0);
        assert!(after.soon <= 1_050.0, "{after:?}");
    }

    /// Seconds that look like a steep line, as noise makes them every minute; where all strays so far it says nothing.
    #[test]
    fn a_line_that_noise_may_have_drawn_is_not_carried_on() {
        let line = [500.0, 1_000.0, 1_500.0, 2_000.0, 2_500.0];
        let calm: Vec<f64> = [vec![500.0; 40], line.to_vec()].concat();
        assert!(demand(&calm, 10.0).soon > 5_000.0, "{:?}", demand(&calm, 10.0));
        let wild = (0..40).map(|second| if second * 7 % 3 == 0 { 2_500.0 } else { 500.0 });
        let wild: Vec<f64> = wild.chain(line).collect();
        assert!(demand(&wild, 10.0).soon <= 2_600.0, "{:?}", demand(&wild, 10.0));
    }

    #[test]
    fn nothing_seen_is_no_demand() {
        assert_eq!(forecast(&Window::default(), 5_000, 1.0), None);
    }
}
