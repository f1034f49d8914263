//! The work.

/// The largest matrix side.
pub(super) const SIDE_MAX: usize = 1000;

/// Multiplies two random `n` × `n` matrices; gives the trace of the product, so that nothing is optimised away.
pub(super) fn multiply(n: usize) -> f64 {
    let (a, b) = (random(n), random(n));
    let mut product = vec![0.0; n * n];
    for (row, out) in a.chunks_exact(n).zip(product.chunks_exact_mut(n)) {
        for (factor, other) in row.iter().zip(b.chunks_exact(n)) {
            for (sum, value) in out.iter_mut().zip(other) {
                *sum += factor * value;
            }
        }
    }
    product.iter().step_by(n + 1).sum()
}

fn random(n: usize) -> Vec<f64> {
    (0..n * n).map(|_| rand::random::<f64>()).collect()
}

/// Reads the side from a query such as `n=100`.
///
/// # Errors
/// Says what would be right.
pub(super) fn side(query: Option<&str>) -> Result<usize, String> {
    let wanted = format!("give n from 1 to {SIDE_MAX}, like /multiply?n=100");
    let n = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("n="));
    let n = n.ok_or_else(|| format!("n is missing: {wanted}"))?;
    n.parse().ok().filter(|n| (1..=SIDE_MAX).contains(n)).ok_or_else(|| format!("n={n} is not right: {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sensible_sides() {
        assert_eq!(side(Some("a=b&n=100")), Ok(100));
        for bad in [None, Some(""), Some("n="), Some("n=0"), Some("n=-1"), Some("n=1001"), Some("n=1e2"), Some("n=a")] {
            assert!(side(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_trace_is_plausible() {
        // Each of n diagonal sums has n terms of mean 1/4.
        let (n, trace) = (100.0, multiply(100));
        assert!((trace / (n * n / 4.0) - 1.0).abs() < 0.2, "{trace}");
    }
}
