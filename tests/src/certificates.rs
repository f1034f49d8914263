//! Certificates for one test, signed by an authority of its own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority, and where its files go.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// A new one; its certificate is `ca.pem` in this folder.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self { issuer, folder: folder.to_owned() };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// Its certificate.
    pub fn ca(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }

    /// Certificate and key of `name` on loopback, signed by it.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer);
        let pem = certificate.expect("a certificate").pem();
        (self.write(&format!("{name}.pem"), &pem), self.write(&format!("{name}.key"), &key.serialize_pem()))
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, content).expect("a file in the test's own folder");
        path.display().to_string()
    }
}
