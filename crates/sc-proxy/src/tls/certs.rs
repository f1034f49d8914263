//! Which certificate a name gets: the one that names it exactly, else one for `*.` and the rest of it (one label, RFC 6125
//! section 6.4.3), else the default.

use std::{collections::HashMap, path::Path, sync::Arc};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::TlsError;

/// Certificates by name.
#[derive(Debug, Default)]
pub struct Certs {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what comes after `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certs {
    /// Adds a certificate for all names in it. The first that names something has it. The first of all is the default, unless
    /// another one `is_default`.
    ///
    /// # Errors
    /// When the certificate names nothing readable.
    pub fn add(&mut self, cert: Arc<CertifiedKey>, is_default: bool) -> Result<(), String> {
        let leaf = cert.end_entity_cert().map_err(|error| error.to_string())?;
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
        for name in leaf.valid_dns_names().map(str::to_ascii_lowercase) {
            match name.strip_prefix("*.") {
                Some(rest) => self.wildcard.entry(rest.to_owned()).or_insert_with(|| cert.clone()),
                None => self.exact.entry(name).or_insert_with(|| cert.clone()),
            };
        }
        if is_default || self.default.is_none() {
            self.default = Some(cert);
        }
        Ok(())
    }

    /// Makes one the default whatever the others are.
    pub fn set_default(&mut self, cert: Arc<CertifiedKey>) {
        self.default = Some(cert);
    }

    /// The certificate for a name; rustls gives names in lower case and without a last dot.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let wildcard = || name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest));
            self.exact.get(name).or_else(wildcard)
        });
        named.or(self.default.as_ref()).cloned()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.default.is_none()
    }

    /// The names that have a certificate, sorted.
    pub fn list(&self) -> Vec<String> {
        let wildcards = self.wildcard.keys().map(|rest| format!("*.{rest}"));
        let mut names: Vec<_> = self.exact.keys().cloned().chain(wildcards).collect();
        names.sort();
        names
    }

    /// How many names have a certificate.
    pub fn names(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }
}

/// Reads a certificate with its chain and key from PEM text.
///
/// # Errors
/// When one of them is missing or unreadable, or they do not belong together. `path` is only named.
pub fn read(path: &Path, cert: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let refused = |what: String| TlsError::Content { path: path.to_owned(), what };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|error| refused(error.to_string()))?;
    if chain.is_empty() {
        return Err(refused("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refused(format!("its key: {error}")))?;
    let made = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    made.map_err(|error| refused(format!("it and its key do not go together: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cert(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Arc::new(read(Path::new("test"), cert.as_bytes(), key.as_bytes()).unwrap())
    }

    #[test]
    fn a_name_gets_its_own_certificate_before_a_wildcard_before_the_default() {
        let mut certs = Certs::default();
        assert!(certs.find(Some("a.test")).is_none());
        let (first, wild, exact) = (cert(&["first.test"]), cert(&["*.a.test", "a.test"]), cert(&["x.a.test"]));
        for cert in [&first, &wild, &exact] {
            certs.add(cert.clone(), false).unwrap();
        }
        let is = |name, cert| Arc::ptr_eq(&certs.find(name).unwrap(), cert);
        assert!(is(Some("x.a.test"), &exact) && is(Some("y.a.test"), &wild) && is(Some("a.test"), &wild));
        assert!(is(Some("y.x.a.test"), &first), "a wildcard stands for one label");
        assert_eq!(certs.list(), ["*.a.test", "a.test", "first.test", "x.a.test"]);
        assert!(is(Some("other.test"), &first) && is(None, &first));
        certs.add(exact.clone(), true).unwrap();
        assert!(Arc::ptr_eq(&certs.find(None).unwrap(), &exact));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (one, other) =
            (rcgen::generate_simple_self_signed(vec![]).unwrap(), rcgen::generate_simple_self_signed(vec![]).unwrap());
        let (cert, key) = (one.cert.pem(), other.signing_key.serialize_pem());
        let said =
            |cert: &str, key: &str| read(Path::new("x.crt"), cert.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert!(said(&cert, &key).contains("do not go together"));
        assert!(said("", &key).contains("no certificate"));
        assert!(said(&cert, "nothing").contains("its key"));
    }
}
