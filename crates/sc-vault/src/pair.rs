//! A certificate with its private key, as people give them: PEM.

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::{Secret, der};

/// The most certificates of a chain.
const CHAIN_MAX: usize = 10;
/// The longest text of a chain, and of a key, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// A certificate and its key that belong together, without anything else that was in their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate and those that lead to its authority, as PEM.
    pub chain: String,
    /// Its private key, as PEM.
    pub key: Secret,
    /// The host names in it.
    pub names: Vec<String>,
    /// From when it is good, Unix milliseconds.
    pub not_before_ms: u64,
    /// Until when.
    pub not_after_ms: u64,
}

/// What is wrong with a pair, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: &'static str,
}

fn refused(what: impl Into<String>, fix: &'static str) -> Refused {
    Refused { what: what.into(), fix }
}

impl Pair {
    /// Reads a pair and looks whether it can be served now.
    ///
    /// # Errors
    /// When one of them is no PEM, they do not belong together, it names no host, or it has ended.
    pub fn read(chain: &str, key: &str, now_ms: u64) -> Result<Self, Refused> {
        if chain.len() > TEXT_MAX || key.len() > TEXT_MAX {
            return Err(refused(
                "one of the files is longer than 64 KiB",
                "give a certificate with its chain, and its key",
            ));
        }
        let pem = "give the certificate and its chain as PEM: blocks that begin with -----BEGIN CERTIFICATE-----";
        let certs: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let certs = certs.map_err(|error| refused(format!("the certificate cannot be read: {error}"), pem))?;
        let Some(leaf) = certs.first() else {
            return Err(refused("there is no certificate in it", pem));
        };
        if certs.len() > CHAIN_MAX {
            let fix = "give the certificate and those between it and its authority, not a whole bundle of authorities";
            return Err(refused(format!("there are {} certificates in it", certs.len()), fix));
        }
        let (names, not_before_ms, not_after_ms) = facts(leaf)?;
        if not_after_ms <= now_ms {
            return Err(refused("the certificate has expired", "renew it where it comes from, then add the new one"));
        }
        let pem = "give the private key as PEM without a password: -----BEGIN PRIVATE KEY----- (`openssl pkey -in KEY` takes \
                   a password off)";
        let key_der = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| refused(format!("the key cannot be read: {error}"), pem))?;
        let fits =
            "give the key that the certificate was made for, and put the host's own certificate first in its file";
        let together = CertifiedKey::from_der(certs.clone(), key_der.clone_key(), &aws_lc_rs::default_provider());
        together.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => refused("the key is not the certificate's", fits),
            error => refused(format!("the key is not the certificate's, or not one that is served: {error}"), fits),
        })?;
        let chain = certs.iter().map(|cert| encode("CERTIFICATE", cert)).collect();
        let key = Secret(key_pem(&key_der));
        Ok(Self { chain, key, names, not_before_ms, not_after_ms })
    }
}

fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    encode(label, key.secret_der())
}

fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, u64, u64), Refused> {
    let odd = "give an X.509 certificate as an authority hands it out";
    let cert = webpki::EndEntityCert::try_from(leaf);
    let cert = cert.map_err(|error| refused(format!("the certificate cannot be read: {error}"), odd))?;
    let mut names: Vec<String> = cert.valid_dns_names().map(str::to_ascii_lowercase).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        let fix = "have one made with the host names as subject alternative names (SAN); a common name alone is not looked at";
        return Err(refused("the certificate names no host", fix));
    }
    let (from, to) = der::validity(leaf).ok_or_else(|| refused("the certificate's dates cannot be read", odd))?;
    Ok((names, from, to))
}

/// PEM (RFC 7468).
fn encode(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_read_with_what_is_in_it_and_nothing_else_of_its_files() {
        let (cert, key) = made(&["b.test", "A.test", "*.c.test"]);
        // Both files hold both, as many programs write them.
        let both = format!("{key}\n{cert}");
        let pair = Pair::read(&both, &both, NOW).unwrap();
        assert_eq!(pair.names, ["*.c.test", "a.test", "b.test"]);
        assert!(!pair.chain.contains("PRIVATE") && pair.key.0.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(pair.not_before_ms < NOW && pair.not_after_ms > NOW);
        assert_eq!(Pair::read(&pair.chain, &pair.key.0, NOW).unwrap(), pair);
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_reason() {
        let ((cert, key), (_, other)) = (made(&["a.test"]), made(&["a.test"]));
        let nameless = made(&[]);
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let ended_key = rcgen::KeyPair::generate().unwrap();
        let ended = params.self_signed(&ended_key).unwrap().pem();
        let huge = "x".repeat(TEXT_MAX + 1);
        for (cert, key, what) in [
            (&cert, &other, "not the certificate's"),
            (&cert, &"nothing".to_owned(), "key cannot be read"),
            (&"nothing".to_owned(), &key, "no certificate"),
            (&cert[..cert.len() / 2].to_owned(), &key, "certificate"),
            (&nameless.0, &nameless.1, "names no host"),
            (&ended, &ended_key.serialize_pem(), "expired"),
            (&huge, &key, "64 KiB"),
            (&cert.repeat(11), &key, "11 certificates"),
        ] {
            let refused = Pair::read(cert, key, NOW).unwrap_err();
            assert!(refused.what.contains(what), "{refused:?}");
            assert!(!refused.fix.is_empty());
        }
    }
}
