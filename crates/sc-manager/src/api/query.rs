//! The part of an address behind the question mark, and escapes in paths.

use std::collections::BTreeMap;

use sc_api::Problem;

use crate::problem;

/// Names and values.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads `a=1&b=x%20y`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut all = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "1"));
            all.insert(decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?);
        }
        Ok(Self(all))
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether something is asked for: `1` or `true`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true" | "") => Ok(true),
            Some(other) => Err(problem::malformed(format!("{name}={other}: write {name}=1 or leave it out"))),
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| problem::malformed(format!("{name}={text} is no whole number")))
    }
}

/// A text with its `%XX` escapes resolved.
pub fn decoded(text: &str) -> Result<String, Problem> {
    let bad = || problem::malformed(format!("{text:?} has a bad %-escape"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or_else(bad)?;
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_flags() {
        let query = Query::parse("follow=1&grep=a%20b+c&tail=5&x").unwrap();
        assert_eq!(query.get("grep"), Some("a b c"));
        assert_eq!(query.number("tail").unwrap(), Some(5));
        assert!(query.flag("follow").unwrap() && query.flag("x").unwrap() && !query.flag("y").unwrap());
        assert!(query.number("grep").is_err() && query.flag("grep").is_err());
        assert!(Query::parse("a=%4").is_err() && Query::parse("a=%ff").is_err() && Query::parse("a=%+1").is_err());
    }
}
