//! HTTPS to an authority: one connection per request, everything bounded.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response, Uri,
    client::conn::http1,
    header::{HOST, HeaderValue, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// How long one request may take in all.
const TAKES: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// Where systems keep the authorities they trust: Debian and Alpine, Fedora, and the BSDs' place.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The way to an authority.
#[derive(Clone)]
pub(super) struct Https {
    tls: TlsConnector,
    /// What the last answer said of when to ask again.
    retry_after: Arc<Mutex<Option<SystemTime>>>,
}

impl Https {
    /// Trusts the authorities in this PEM file; none: the system's.
    ///
    /// # Errors
    /// When there are none.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let path = match ca {
            Some(path) => path.to_owned(),
            None => BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
                "this system has no bundle of authorities to know the ACME server by: install ca-certificates, or give \
                 --acme-ca FILE"
                    .to_owned()
            })?,
        };
        let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let mut roots = RootCertStore::empty();
        let certs = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(&error))?;
        // Bundles hold some that rustls does not take.
        certs.flatten().for_each(|cert| drop(roots.add(cert)));
        if roots.is_empty() {
            return Err(wrong(&"there is no authority in it"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), retry_after: Arc::default() })
    }

    /// When the last answer wished to be asked again.
    pub(super) fn retry_after(&self) -> Option<SystemTime> {
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Failure> {
        let (request, host, port) = prepared(request)?;
        let name = ServerName::try_from(host.clone())?;
        let stream = TcpStream::connect((host, port)).await?;
        let stream = self.tls.connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
        drop(connection);
        let later = parts.headers.get(RETRY_AFTER).and_then(when);
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = later;
        let body = http_body_util::Full::new(body);
        Ok(BytesResponse::from(Response::from_parts(parts, body)))
    }
}

/// In origin form, with its `Host`; and where it goes.
fn prepared<B>(mut request: Request<B>) -> Result<(Request<B>, String, u16), Failure> {
    let uri = request.uri().clone();
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
    let authority = authority.ok_or_else(|| format!("{uri}: an authority is spoken with over https:// only"))?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse::<Uri>()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((request, host, authority.port_u16().unwrap_or(443)))
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn when(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(SystemTime::now() + Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            match timeout(TAKES, exchange).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(instant_acme::Error::Other(error)),
                Err(_) => Err(instant_acme::Error::Other("the authority did not answer in time".into())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_spoken() {
        let prepare = |uri: &str| prepared(Request::builder().uri(uri).body(()).unwrap());
        let (request, host, port) = prepare("https://ca.test:14000/dir?x=1").unwrap();
        assert_eq!((request.uri().to_string(), host.as_str(), port), ("/dir?x=1".into(), "ca.test", 14000));
        assert_eq!(request.headers()[HOST], "ca.test:14000");
        assert_eq!(prepare("https://[::1]/").unwrap().1, "::1");
        assert!(prepare("http://ca.test/dir").is_err() && prepare("/dir").is_err());
    }

    #[test]
    fn later_is_seconds_or_a_date() {
        let at = |text: &'static str| when(&HeaderValue::from_static(text));
        assert!(at("120").is_some_and(|at| at > SystemTime::now() + Duration::from_secs(100)));
        assert!(at("Fri, 31 Dec 1999 23:59:59 GMT").is_some());
        assert_eq!(at("soon"), None);
    }
}
