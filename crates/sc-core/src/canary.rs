//! A canary: a new version that gets a share of an app's requests beside the wanted one, until it is promoted, withdrawn,
//! or goes back by itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    plan::DesiredApp,
    records::{CrashLoop, Extra, Replica, UnixMs},
};

/// A share of an app's requests: 0.1 to 99.9 %, in steps of 0.1. Written like `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no share of the requests: write 0.1% to 99.9%, like 10%; all is `sc promote`, nothing is `sc rollback`"
)]
pub struct ShareError(String);

impl Share {
    /// The whole, in the unit of [`Share::permille`].
    pub const WHOLE: u32 = 1_000;

    /// In thousandths, 1 to 999.
    pub fn permille(self) -> u32 {
        self.0.into()
    }

    /// How many of so many replicas serve this share: rounded up, so that it is never more than they can take.
    pub fn of(self, replicas: u32) -> u32 {
        (u64::from(replicas) * u64::from(self.0)).div_ceil(u64::from(Self::WHOLE)) as u32
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let error = || ShareError(text.to_owned());
        let number = text.trim().strip_suffix('%').ok_or_else(error)?.trim_end();
        let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str, most: usize| {
            let right = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            right.then(|| text.parse::<u16>().ok()).flatten().ok_or_else(error)
        };
        let permille = digits(whole, 2)? * 10 + digits(tenths, 1)?;
        if permille == 0 { Err(error()) } else { Ok(Self(permille)) }
    }
}

impl TryFrom<String> for Share {
    type Error = ShareError;

    fn try_from(text: String) -> Result<Self, ShareError> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenth) => write!(f, "{whole}.{tenth}%"),
        }
    }
}

/// The new version of an app that has one on trial. The app's wanted version stays what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Which version.
    pub version: u64,
    /// How much of the requests it gets.
    pub share: Share,
    /// Since when it is on trial.
    pub since_ms: UnixMs,
    /// When it last came a step further; the deploy timeout counts from here until it is up.
    pub progress_ms: UnixMs,
    /// When all of its replicas had become ready. Until then, and after a change of its share, it has to come up in time.
    #[serde(default)]
    pub up_ms: Option<UnixMs>,
    /// Its crashes in a row, while there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashLoop>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Canary {
    /// One that begins now.
    pub fn new(version: u64, share: Share, now: UnixMs) -> Self {
        let extra = Extra::default();
        Self { version, share, since_ms: now, progress_ms: now, up_ms: None, crash: None, extra }
    }

    /// The same with another share: it has to come up with that.
    #[must_use]
    pub fn with_share(&self, share: Share, now: UnixMs) -> Self {
        Self { share, progress_ms: now, up_ms: None, ..self.clone() }
    }
}

impl DesiredApp {
    /// Whether a replica is of the canary, and of the latest restart.
    pub fn is_canary(&self, replica: &Replica) -> bool {
        let version = self.app.canary.as_ref().map(|canary| canary.version);
        Some(replica.version) == version && replica.restart >= self.app.restart && !replica.replace
    }

    /// Whether a replica is of a version that shall run, and of the latest restart.
    pub fn is_wanted(&self, replica: &Replica) -> bool {
        self.is_current(replica) || self.is_canary(replica)
    }

    /// How many replicas the canary has: its share of the count, rounded up.
    pub fn canary_want(&self) -> u32 {
        self.app.canary.as_ref().map_or(0, |canary| canary.share.of(self.want()))
    }

    /// How many replicas of the wanted version give way to the canary's, once those serve: as many as do not fit above the
    /// count with the surge. So with a canary there are never more than count and surge, and each version has at least
    /// its share of the count.
    pub fn gives_way(&self) -> u32 {
        self.canary_want().saturating_sub(self.surge())
    }

    /// How many replicas above the wanted count there may be.
    pub fn surge(&self) -> u32 {
        self.spec().map_or(1, |spec| spec.deploy.surge.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_written() {
        for (text, permille) in [("10%", 100), ("0.5%", 5), ("99.9%", 999), (" 1 %", 10), ("2.0%", 20)] {
            assert_eq!(text.parse::<Share>().map(Share::permille), Ok(permille), "{text}");
        }
        for wrong in ["", "10", "%", "0%", "0.0%", "100%", "-1%", "1.25%", "1.%", ".5%", "1e1%", "+1%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn each_version_has_its_share_of_the_count(permille in 1u16..1_000, want in 0u32..200, surge in 1u32..5) {
            let share = Share(permille);
            prop_assert_eq!(share.to_string().parse(), Ok(share));
            let canary = share.of(want);
            let other = want - canary.saturating_sub(surge).min(want);
            prop_assert!(other + canary <= want + surge);
            prop_assert!(u64::from(canary) * 1_000 >= u64::from(want) * u64::from(permille));
            prop_assert!(u64::from(other) * 1_000 >= u64::from(want) * u64::from(1_000 - permille));
            prop_assert!((want == 0) == (canary == 0) && (want == 0) == (other == 0));
        }
    }
}
