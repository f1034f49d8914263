//! Whether the proxy compresses an app's answers.

use serde::{Deserialize, Serialize};

/// Which answers the proxy compresses for clients that ask for it (RFC 9110 section 12.5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compress {
    /// Media types, as `text/html`, or `text/*` for all of a kind. Empty: those that are known to shrink, but for
    /// `text/event-stream`, whose answers last for long and hold a coder all the while.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Answers that say they are shorter than so many bytes stay as they are.
    pub min_size: u64,
    /// The codings, the one that is preferred first.
    pub codings: Vec<Coding>,
}

/// What an answer can be compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// RFC 8878; about as small as brotli, at a third of the time.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.name() == name)
    }
}

/// The most media types.
const TYPES_MAX: usize = 64;
/// The largest `min_size`: 1 GiB.
const MIN_SIZE_MAX: u64 = 1 << 30;

impl Default for Compress {
    fn default() -> Self {
        Self { types: Vec::new(), min_size: 1024, codings: Coding::ALL.to_vec() }
    }
}

impl Compress {
    /// What is wrong with it, by key.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
        };
        let is_type = |name: &&String| match name.split_once('/') {
            Some((kind, rest)) => token(kind) && (rest == "*" || token(rest)),
            None => false,
        };
        let mut faults = Vec::new();
        if let Some(odd) = self.types.iter().find(|name| !is_type(name)) {
            faults.push(("types", format!("{odd:?} is no media type: write it like \"text/html\" or \"text/*\"")));
        }
        if self.types.len() > TYPES_MAX {
            faults.push(("types", format!("at most {TYPES_MAX} media types")));
        }
        if self.min_size > MIN_SIZE_MAX {
            faults.push(("min_size", "give at most 1GiB, like 1KiB".to_owned()));
        }
        let twice = |(n, coding): (usize, &Coding)| self.codings[..n].contains(coding);
        if self.codings.is_empty() || self.codings.iter().enumerate().any(twice) {
            faults.push((
                "codings",
                "give each of \"zstd\", \"br\" and \"gzip\" at most once, and one at least".to_owned(),
            ));
        }
        faults
    }
}
