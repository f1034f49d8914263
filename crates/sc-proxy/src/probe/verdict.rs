//! What some probes in a row say of a backend.

use super::Probe;

/// What is known of a backend. It begins well: a proxy that starts serves at once.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    down: bool,
    /// Probes in a row that say otherwise.
    against: u32,
}

impl Verdict {
    /// Takes one probe in. Gives whether it is down now, if that has changed.
    pub(super) fn saw(&mut self, good: bool, probe: &Probe) -> Option<bool> {
        if good != self.down {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if self.down { probe.healthy_after } else { probe.unhealthy_after };
        if self.against < enough {
            return None;
        }
        (self.down, self.against) = (!self.down, 0);
        Some(self.down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_in_a_row_change_it() {
        let (probe, mut verdict) =
            (Probe { unhealthy_after: 3, healthy_after: 2, ..Probe::default() }, Verdict::default());
        let told: Vec<_> = "+--+--- -+-++ +-"
            .chars()
            .filter(|c| *c != ' ')
            .map(|c| verdict.saw(c == '+', &probe))
            .enumerate()
            .filter_map(|(at, told)| Some((at, told?)))
            .collect();
        assert_eq!(told, [(6, true), (11, false)]);
    }
}
