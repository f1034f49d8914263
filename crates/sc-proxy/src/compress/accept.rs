//! `Accept-Encoding` (RFC 9110 section 12.5.3).

use hyper::header::HeaderValue;
use sc_core::spec::Coding;

/// A weight in thousandths.
type Weight = u16;

/// What a client accepts, as far as it is told.
#[derive(Default)]
struct Accepted {
    codings: [Option<Weight>; 3],
    identity: Option<Weight>,
    any: Option<Weight>,
}

/// The coding that a client would have: the one of the greatest weight, of equals the first of `preferred`. None where there is
/// none that it accepts, where it would rather have the answer as it is, or where it says nothing.
pub fn choose<'a>(fields: impl IntoIterator<Item = &'a HeaderValue>, preferred: &[Coding]) -> Option<Coding> {
    let mut accepted = Accepted::default();
    for field in fields {
        field.as_bytes().split(|byte| *byte == b',').for_each(|item| accepted.take(item));
    }
    let weight = |coding: Coding| accepted.codings[coding as usize].or(accepted.any).unwrap_or(0);
    let best = preferred.iter().copied().map(|coding| (weight(coding), coding));
    // The first of the greatest: a later one must be greater.
    let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    (best.0 > 0 && best.0 >= accepted.identity.unwrap_or(0)).then_some(best.1)
}

impl Accepted {
    fn take(&mut self, item: &[u8]) {
        let mut parts = item.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let weight = parts.next().map_or(1000, |parameter| weight(parameter).unwrap_or(0));
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let slot = match Coding::ALL.into_iter().find(|coding| is(coding.name())) {
            Some(coding) => &mut self.codings[coding as usize],
            None if is("x-gzip") => &mut self.codings[Coding::Gzip as usize], // RFC 9110 section 8.4.1.3
            None if is("identity") => &mut self.identity,
            None if is("*") => &mut self.any,
            None => return,
        };
        slot.get_or_insert(weight);
    }
}

/// `q=` with a number from 0 to 1 of at most three decimals (RFC 9110 section 12.4.2).
fn weight(parameter: &[u8]) -> Option<Weight> {
    let parameter = parameter.trim_ascii();
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, decimals) = match value {
        [whole] => (*whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| Weight::from(decimals.get(at).map_or(0, |digit| digit - b'0'));
    let weight = Weight::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(fields: &[&str]) -> &'static str {
        let fields: Vec<_> = fields.iter().map(|field| HeaderValue::from_str(field).unwrap()).collect();
        choose(&fields, &Coding::ALL).map_or("-", Coding::name)
    }

    #[test]
    fn the_greatest_weight_wins_then_our_own_order() {
        assert_eq!(chosen(&[]), "-");
        assert_eq!(chosen(&[""]), "-");
        assert_eq!(chosen(&["gzip, deflate, br, zstd"]), "zstd");
        assert_eq!(chosen(&["gzip, deflate, br"]), "br");
        assert_eq!(chosen(&["gzip;q=1.0, br;q=0.9"]), "gzip");
        assert_eq!(chosen(&["GZIP ; Q=0.8", "br;q=0.801"]), "br");
        assert_eq!(chosen(&["x-gzip"]), "gzip");
        assert_eq!(chosen(&["*"]), "zstd");
        assert_eq!(chosen(&["*;q=0.5, zstd;q=0, br;q=0.2"]), "gzip");
        assert_eq!(chosen(&["gzip;q=0"]), "-");
        assert_eq!(chosen(&["*;q=0"]), "-");
        assert_eq!(chosen(&["deflate, compress"]), "-");
        assert_eq!(chosen(&["identity, gzip;q=0.5"]), "-");
        assert_eq!(chosen(&["identity;q=0.5, gzip;q=0.5"]), "gzip");
        assert_eq!(chosen(&["identity;q=0, gzip"]), "gzip");
    }

    #[test]
    fn what_is_no_weight_is_no_consent() {
        for bad in ["gzip;q=2", "gzip;q=1.001", "gzip;q=0.1234", "gzip;q=-1", "gzip;q=", "gzip;q=x", "gzip;level=9"] {
            assert_eq!(chosen(&[bad]), "-", "{bad}");
        }
        assert_eq!(chosen(&["gzip;q=0.", "br;q=0.0"]), "-");
    }

    proptest! {
        #[test]
        fn only_what_is_accepted_is_chosen(items in proptest::collection::vec((0usize..5, 0u16..=1000), 0..6)) {
            let names = ["zstd", "br", "gzip", "identity", "*"];
            let item = |(name, q): &(usize, u16)| format!("{};q={}.{:03}", names[*name], q / 1000, q % 1000);
            let field = items.iter().map(item).collect::<Vec<_>>().join(", ");
            let first = |name: &str| items.iter().find(|(n, _)| names[*n] == name).map(|(_, q)| *q);
            let name = chosen(&[&field]);
            let weight = |name: &str| first(name).or(first("*")).unwrap_or(0);
            if name == "-" {
                let as_it_is = first("identity").unwrap_or(0);
                prop_assert!(names[..3].iter().all(|name| weight(name) == 0 || weight(name) < as_it_is));
            } else {
                prop_assert!(weight(name) > 0 && names[..3].iter().all(|other| weight(other) <= weight(name)));
            }
        }
    }
}
