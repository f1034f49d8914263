//! Certificates for one test, signed by an authority of its own.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair, SanType,
};

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

    /// Its certificate's text.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for what is asked for in a request (DER) if that is this host alone, and from now on for so long; with
    /// its chain.
    ///
    /// # Errors
    /// When the request is for something else, or is not signed by its own key.
    pub fn issue(&self, request: &[u8], host: &str, lifetime: Duration) -> Result<String, String> {
        let request = CertificateSigningRequestParams::from_der(&request.to_vec().into());
        let mut request = request.map_err(|error| error.to_string())?;
        match &request.params.subject_alt_names[..] {
            [SanType::DnsName(name)] if name.as_str() == host => {}
            other => return Err(format!("the request is for {other:?}, not {host}")),
        }
        request.params.not_before = (SystemTime::now() - Duration::from_secs(1)).into();
        request.params.not_after = (SystemTime::now() + lifetime).into();
        let certificate = request.signed_by(&self.issuer).map_err(|error| error.to_string())?;
        Ok(certificate.pem() + &self.issuer.pem())
    }

    /// Certificate and key of these host names, as files.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn sign_for(&self, name: &str, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer);
        let pem = certificate.expect("a certificate").pem();
        (self.write(&format!("{name}.pem"), &pem), self.write(&format!("{name}.key"), &key.serialize_pem()))
    }

    /// Certificate and key of `name` on loopback, signed by it.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn sign(&self, name: &str) -> (String, String) {
        self.sign_for(name, &["127.0.0.1", "localhost"])
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, content).expect("a file in the test's own folder");
        path.display().to_string()
    }
}
