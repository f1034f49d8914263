//! TLS towards clients: which certificate a name gets ([`certs`]), and where certificates come from (`files`, or one of the
//! proxy's own making). One rustls configuration serves all threads, so a session ticket given by one is taken by every other;
//! certificates are swapped inside it.

pub mod certs;
mod files;
mod outgoing;
mod own;
mod shelf;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use self::certs::Certs;
pub use self::outgoing::Outgoing;
pub(crate) use self::{files::Folder, outgoing::check_ca, shelf::Shelf};
use crate::source::Stored;

/// What TLS is made from.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Addresses that take HTTPS; none: no TLS.
    pub listen: Vec<std::net::SocketAddr>,
    /// Folder of certificates (`NAME.crt` or `NAME.pem`, with `NAME.key`), watched; none: a certificate of the proxy's own.
    pub certs: Option<PathBuf>,
    /// PEM file of the authorities whose clients alone may connect; none: any client may.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no usable certificate or key.
    #[error("{} is refused: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No certificate of our own could be made.
    #[error("no certificate could be made: {0}")]
    Own(String),
    /// rustls refuses what it was given.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// TLS, ready to serve.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// The folder to watch, if there is one.
    pub(crate) folder: Option<Folder>,
    /// Where certificates are put.
    pub(crate) shelf: Arc<Shelf>,
}

impl Tls {
    /// Reads the certificates for the first time. `data`: where a certificate of our own is kept. `stored`: what the store had
    /// when this proxy last ran.
    pub(crate) fn new(config: &TlsConfig, data: Option<&Path>, stored: Option<Stored>) -> Result<Self, TlsError> {
        let shelf = Arc::new(Shelf::new(data));
        let folder = config.certs.as_deref().map(|path| Folder::open(path, shelf.clone())).transpose()?;
        shelf.put_stored(&stored.unwrap_or_default());
        shelf.begin()?;
        let config = server_config(Arc::new(Resolver(shelf.current())), config.client_ca.as_deref())?;
        Ok(Self { config: Arc::new(config), folder, shelf })
    }
}

/// The usual cryptography, with AES-128-GCM and SHA-256 before all else. Most clients would take AES-256 with SHA-384 first,
/// whose hashing was 23 % of what a handshake costs here: processors have instructions for SHA-256, most have none for
/// SHA-384. Every client of TLS 1.3 has this suite (RFC 8446 section 9.1), and it is what browsers ask for first.
fn provider() -> CryptoProvider {
    use rustls::CipherSuite::*;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        TLS13_AES_128_GCM_SHA256 | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    });
    provider
}

fn server_config(resolver: Arc<Resolver>, client_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let mut config = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::new(aws_lc_rs::default_provider())).build();
            let refused = |error: rustls::server::VerifierBuilderError| TlsError::Content {
                path: path.to_owned(),
                what: error.to_string(),
            };
            builder.with_client_cert_verifier(verifier.map_err(refused)?)
        }
    }
    .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.ignore_client_order = true;
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let refused = |what: String| TlsError::Content { path: path.to_owned(), what };
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))? {
        let cert = cert.map_err(|error| refused(error.to_string()))?;
        roots.add(cert).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() { Err(refused("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

/// Chooses a certificate by the name that the client asks for.
#[derive(Debug)]
struct Resolver(Arc<ArcSwap<Certs>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name())
    }
}
