//! How many requests a client may send ([`sc_core::spec::Rate`]), per proxy.

mod bucket;
mod meter;

use std::{net::IpAddr, sync::Arc};

pub use bucket::Bucket;
use hyper::{HeaderMap, header::HeaderName};
pub use meter::Meter;
use sc_core::spec::{ClientKey, Rate};

use crate::{addresses::network, config::Cidr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An app's limit, and what its clients have used of it.
#[derive(Debug)]
pub struct Limiter {
    asked: Rate,
    bucket: Bucket,
    /// The field that tells clients apart; none: their address does.
    field: Option<HeaderName>,
    meter: Meter,
}

/// Who is on the other side of the connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Its address.
    pub address: IpAddr,
    /// It may speak for others.
    pub trusted: bool,
    /// Who else may.
    pub trust: &'a [Cidr],
}

impl Limiter {
    /// The app's; `previous` goes on where the limit is the same.
    pub fn new(asked: &Rate, previous: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(same) = previous.filter(|previous| previous.asked == *asked) {
            return same.clone();
        }
        let field = match &asked.by {
            ClientKey::Address => None,
            ClientKey::Header(name) => HeaderName::try_from(name).ok(),
        };
        Arc::new(Self { asked: asked.clone(), bucket: Bucket::new(asked), field, meter: Meter::default() })
    }

    /// Whether clients are told apart by their addresses.
    pub fn is_by_address(&self) -> bool {
        self.field.is_none()
    }

    /// Counts a request of a client that speaks for nobody else; as [`Self::pass`] does.
    ///
    /// # Errors
    /// As there.
    pub fn pass_address(&self, address: IpAddr, now: u64) -> Result<(), u64> {
        self.meter.take(self.bucket, network(address), now)
    }

    /// Counts a request. `now`: nanoseconds since any time zero.
    ///
    /// # Errors
    /// It is one too many: in how many nanoseconds the client may send another.
    pub fn pass(&self, headers: &HeaderMap, origin: Origin<'_>, now: u64) -> Result<(), u64> {
        match self.field.as_ref().and_then(|name| headers.get(name)) {
            Some(value) => self.meter.take(self.bucket, value.as_bytes(), now),
            None => self.pass_address(client(headers, origin), now),
        }
    }
}

/// The client's address: behind trusted proxies the last of `X-Forwarded-For` that is none of them.
fn client(headers: &HeaderMap, origin: Origin<'_>) -> IpAddr {
    if !origin.trusted {
        return origin.address;
    }
    let fields = headers.get_all(FORWARDED_FOR).into_iter().rev();
    let items = fields.flat_map(|field| field.to_str().unwrap_or_default().rsplit(','));
    let mut nearest = origin.address;
    for item in items {
        // What a trusted proxy says is no address hides whatever is left of it.
        let Ok(address) = item.trim().parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !origin.trust.iter().any(|range| range.contains(nearest)) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn found(trusted: bool, fields: &[&'static str]) -> String {
        let headers = fields.iter().map(|field| (FORWARDED_FOR, HeaderValue::from_static(field)));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| _ = map.append(name, value));
        let trust = ["10.0.0.0/8".parse().unwrap()];
        client(&map, Origin { address: "10.0.0.1".parse().unwrap(), trusted, trust: &trust }).to_string()
    }

    #[test]
    fn a_client_behind_trusted_proxies_is_the_last_that_is_none_of_them() {
        assert_eq!(found(false, &["192.0.2.1"]), "10.0.0.1");
        assert_eq!(found(true, &[]), "10.0.0.1");
        assert_eq!(found(true, &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(found(true, &["6.6.6.6, 192.0.2.1, 10.1.1.1", "10.2.2.2"]), "192.0.2.1");
        assert_eq!(found(true, &["6.6.6.6, ::ffff:192.0.2.1"]), "192.0.2.1");
        assert_eq!(found(true, &["192.0.2.1, unknown, 10.1.1.1"]), "10.1.1.1");
        assert_eq!(found(true, &["10.1.1.1, 10.2.2.2"]), "10.1.1.1");
    }
}
