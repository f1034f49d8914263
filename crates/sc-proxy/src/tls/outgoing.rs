//! TLS towards backends: whose certificates are taken, and by which name.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use sc_core::spec::{BackendTls, Verify};

use super::TlsError;

/// Where systems keep the authorities they trust: Debian and Alpine, Fedora, and the BSDs' place. `SSL_CERT_FILE` goes first.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What connections to an app's backends are made with.
#[derive(Debug)]
pub struct Outgoing {
    /// rustls' configuration; it remembers sessions.
    pub config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl Outgoing {
    /// `name`: what backends are asked for; none: their address. `http2`: what is agreed on by ALPN, else HTTP/1.1.
    ///
    /// # Errors
    /// When there are no authorities to know the backends by.
    pub fn new(tls: &BackendTls, name: Option<&str>, http2: bool) -> Result<Self, TlsError> {
        let name = name.map(|name| {
            let content = |_| TlsError::Content { path: PathBuf::from(name), what: "it is no host name".into() };
            ServerName::try_from(name.to_owned()).map_err(content)
        });
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let mut config = match &tls.verify {
            Verify::System => builder.with_root_certificates(system_roots()?),
            Verify::Ca(pem) => builder.with_root_certificates(pem_roots(pem)?),
            Verify::None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self { config: Arc::new(config), name: name.transpose()? })
    }

    /// What the backend at an address is asked for.
    pub fn name(&self, addr: IpAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or_else(|| ServerName::IpAddress(addr.into()))
    }
}

/// Whether backends can be known by these authorities.
///
/// # Errors
/// One of them cannot be read, or there is none.
pub(crate) fn check_ca(pem: &str) -> Result<(), TlsError> {
    pem_roots(pem).map(drop)
}

fn pem_roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let refused = |what: String| TlsError::Content { path: PathBuf::from("the app's `ca`"), what };
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let cert = cert.map_err(|error| refused(error.to_string()))?;
        roots.add(cert).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() { Err(refused("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

/// The first bundle there is. Certificates in it that cannot be read are passed over: it is not ours to mend.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    for path in given.into_iter().chain(BUNDLES.map(PathBuf::from)) {
        let Ok(certs) = CertificateDer::pem_file_iter(&path) else { continue };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certs.flatten());
        if !roots.is_empty() {
            return Ok(roots);
        }
    }
    let what = "the system trusts no authority: install its certificates, or name a `ca`".to_owned();
    Err(TlsError::Content { path: PathBuf::from(BUNDLES[0]), what })
}

/// Takes any certificate whose key its owner has.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
