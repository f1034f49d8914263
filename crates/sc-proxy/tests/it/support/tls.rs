//! Certificates, and clients that speak TLS and HTTP/2.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::client::Reply;

/// A self-signed certificate and its key, as PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Pair {
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// Puts it into a folder, the key first, so that there is never a certificate without one.
    pub fn put(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(name).with_extension("key"), &self.key).unwrap();
        std::fs::write(folder.join(name).with_extension("crt"), &self.cert).unwrap();
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from_pem_slice(self.key.as_bytes()).unwrap().into()
    }
}

/// A client that trusts these certificates, and remembers its sessions.
pub fn trusting(pairs: &[&Pair], alpn: &[&str], own: Option<&Pair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    pairs.iter().for_each(|pair| roots.add(pair.der()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_auth_cert(vec![pair.der()], pair.key()).unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A TLS connection.
pub async fn connect(
    addr: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config.clone()).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// Sends one request over HTTP/1.1 and gives its answer and how the handshake went.
pub async fn get_tls(
    addr: SocketAddr,
    name: &str,
    path: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(Reply, HandshakeKind)> {
    let stream = connect(addr, name, config).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    let request = Request::builder().uri(path).header("host", name).body(Full::<Bytes>::default()).unwrap();
    let mut connection = std::pin::pin!(connection.without_shutdown());
    let exchange = async {
        let (parts, body) = sender.send_request(request).await.map_err(std::io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?;
        drop(sender);
        Ok::<_, std::io::Error>(Reply {
            status: parts.status,
            headers: parts.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
        })
    };
    let (reply, ended) = tokio::join!(exchange, &mut connection);
    let kind = ended.map_err(std::io::Error::other)?.io.into_inner().get_ref().1.handshake_kind().unwrap();
    Ok((reply?, kind))
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub struct Conn2(pub http2::SendRequest<Full<Bytes>>);

impl Conn2 {
    pub async fn over(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        self.0.ready().await?;
        let (parts, body) = self.0.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Reply { status: parts.status, headers: parts.headers, body: body.to_bytes(), trailers })
    }
}
