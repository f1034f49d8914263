//! From when and until when a certificate is good: the one thing that nobody else here reads (RFC 5280 section 4.1.2.5).

/// Reads both times of a certificate's DER, in Unix milliseconds. None: it is no certificate.
pub(crate) fn validity(cert: &[u8]) -> Option<(u64, u64)> {
    let (mut cert, _) = open(cert, SEQUENCE)?;
    let (mut tbs, _) = open(take(&mut cert)?, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        take(&mut tbs)?;
    }
    for _serial_algorithm_issuer in 0..3 {
        take(&mut tbs)?;
    }
    let (mut times, _) = open(take(&mut tbs)?, SEQUENCE)?;
    Some((time(take(&mut times)?)?, time(take(&mut times)?)?))
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Takes one element, with its tag and length.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *rest;
    let (_, after) = open(all, *all.first()?)?;
    *rest = after;
    Some(&all[..all.len() - after.len()])
}

/// The content of an element of this tag, and what follows it.
fn open(element: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = element else { return None };
    if *first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(*length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` (of 1950 to 2049) or `YYYYMMDDhhmmssZ`.
fn time(element: &[u8]) -> Option<u64> {
    let (text, short) = match *element.first()? {
        UTC_TIME => (open(element, UTC_TIME)?.0, true),
        GENERALIZED_TIME => (open(element, GENERALIZED_TIME)?.0, false),
        _ => return None,
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) || text.len() != if short { 12 } else { 14 } {
        return None;
    }
    let (year, rest) = text.split_at(if short { 2 } else { 4 });
    let year: i64 = year.parse().ok()?;
    let year = if short { year + if year < 50 { 2000 } else { 1900 } } else { year };
    let part = |n: usize| rest[2 * n..2 * n + 2].parse::<i64>().ok();
    let (month, day) = (part(0).filter(|m| (1..=12).contains(m))?, part(1).filter(|d| (1..=31).contains(d))?);
    let seconds = ((days(year, month, day) * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?;
    Some(u64::try_from(seconds).unwrap_or(0) * 1_000)
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_of_both_kinds() {
        let element = |tag: u8, text: &str| [&[tag, text.len() as u8], text.as_bytes()].concat();
        assert_eq!(time(&element(UTC_TIME, "260731235959Z")), Some(1_785_542_399_000));
        assert_eq!(time(&element(UTC_TIME, "700101000000Z")), Some(0));
        assert_eq!(time(&element(GENERALIZED_TIME, "20500101000000Z")), Some(2_524_608_000_000));
        for bad in ["260731235959", "261331235959Z", "2607312359Z", "26073123595xZ"] {
            assert_eq!(time(&element(UTC_TIME, bad)), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_no_certificate_is_read_past_its_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
        }

        #[test]
        fn nor_is_a_broken_one(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let mut cert = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap().cert.der().to_vec();
            assert!(validity(&cert).is_some());
            let at = at % cert.len();
            cert[at] = byte;
            cert.truncate(cut.max(1));
            let _ = validity(&cert);
        }
    }
}
