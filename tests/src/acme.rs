//! A certificate authority for one test: it speaks ACME (RFC 8555) over HTTPS as a strict one would (nonces are good once,
//! signatures and URLs are checked), looks for challenges with real requests, and fails in the ways it is told to.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{certificates::Authority, load::get};

/// What goes wrong, each so many times.
#[derive(Debug, Default, Clone)]
pub struct Faults {
    /// A good nonce is called a bad one.
    pub bad_nonce: u32,
    /// An order is said to be as it was before.
    pub stale_polls: u32,
    /// The challenge is not found, whatever is there.
    pub invalid: u32,
    /// New orders are refused as too many; with `Retry-After` of so many seconds.
    pub rate_limited: (u32, u32),
    /// The order is forgotten when it is to be finalised.
    pub expired: u32,
    /// Challenges are not looked for until this is taken back.
    pub hold: bool,
}

/// What it has seen and done.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Hosts of new orders, and when.
    pub orders: Vec<(String, Instant)>,
    /// Orders refused as too many, and when.
    pub limited: Vec<Instant>,
    /// Hosts of certificates given out.
    pub issued: Vec<String>,
    /// Challenges it was told to look for.
    pub told: u32,
    /// Accounts made.
    pub accounts: u32,
    /// Requests that no sound client sends.
    pub wrong: Vec<String>,
}

/// The authority. Dropping it ends it.
pub struct Acme {
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    authority: Authority,
    url: String,
    /// Where every host's port 80 is.
    hosts: SocketAddr,
    inner: Mutex<Inner>,
}

struct Inner {
    faults: Faults,
    seen: Seen,
    lifetime: Duration,
    nonces: BTreeSet<String>,
    counter: u64,
    /// By URL: the public key, and its thumbprint.
    accounts: BTreeMap<String, (Vec<u8>, String)>,
    orders: BTreeMap<String, Order>,
}

#[derive(Clone)]
struct Order {
    host: String,
    status: &'static str,
    authorization: &'static str,
    token: String,
    told: bool,
    chain: Option<String>,
    /// What is said while it is to look as before.
    before: &'static str,
}

type Answer = (u16, Value, Vec<(&'static str, String)>);

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    (status, json!({ "type": kind, "detail": detail, "status": status }), Vec::new())
}

impl Acme {
    /// Starts one at `addr`. It finds every host's port 80 at `hosts`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(authority: Authority, addr: SocketAddr, hosts: SocketAddr, lifetime: Duration) -> Self {
        let (cert, key) = authority.sign("acme-server");
        let read = |path: &str| std::fs::read(path).expect("a file that was just written");
        let cert = CertificateDer::from_pem_slice(&read(&cert)).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(&read(&key)).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("a pair");
        let listener = TcpListener::bind(addr).await.expect("a free port");
        let inner = Inner {
            faults: Faults::default(),
            seen: Seen::default(),
            lifetime,
            nonces: BTreeSet::new(),
            counter: 0,
            accounts: BTreeMap::new(),
            orders: BTreeMap::new(),
        };
        let url = format!("https://localhost:{}", addr.port());
        let state = Arc::new(State { authority, url, hosts, inner: Mutex::new(inner) });
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), state.clone()));
        Self { state, task }
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("{}/dir", self.state.url)
    }

    /// Its authority's certificate.
    pub fn ca(&self) -> String {
        self.state.authority.ca_pem()
    }

    /// Changes what goes wrong.
    pub fn fail(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.lock().faults);
    }

    /// For how long the next certificates are good.
    pub fn lifetime(&self, lifetime: Duration) {
        self.state.lock().lifetime = lifetime;
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        self.state.lock().seen.clone()
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (status, body, headers) = match (method, path.as_str()) {
            (Method::GET, "/dir") => (200, self.directory(), Vec::new()),
            (Method::HEAD, "/nonce") => (200, Value::Null, Vec::new()),
            (Method::POST, _) => self.post(&path, &body),
            _ => problem(404, "malformed", "there is nothing here"),
        };
        let text = match body {
            Value::Null => String::new(),
            Value::String(text) => text,
            json => json.to_string(),
        };
        let mut response = Response::builder().status(status).header("replay-nonce", self.nonce());
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(Full::from(text)).expect("a response")
    }

    fn directory(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        json!({
            "newNonce": at("/nonce"), "newAccount": at("/new-account"), "newOrder": at("/new-order"),
            "revokeCert": at("/revoke"), "keyChange": at("/key-change"), "meta": {},
        })
    }

    fn nonce(&self) -> String {
        let mut inner = self.lock();
        inner.counter += 1;
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(format!("nonce-{}", inner.counter));
        inner.nonces.insert(nonce.clone());
        nonce
    }

    fn post(self: &Arc<Self>, path: &str, body: &[u8]) -> Answer {
        let (account, payload) = match self.verified(path, body) {
            Ok(verified) => verified,
            Err(answer) => {
                if !answer.1.to_string().contains("badNonce") {
                    self.lock().seen.wrong.push(format!("{path}: {}", answer.1));
                }
                return answer;
            }
        };
        let (kind, id) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        match kind {
            "new-account" => (201, json!({ "status": "valid" }), vec![("location", account)]),
            "account" => (200, json!({ "status": "valid" }), Vec::new()),
            "new-order" => self.new_order(&payload),
            _ => {
                let Some(order) = self.lock().orders.get(id).cloned() else {
                    return problem(404, "malformed", "there is no such order; it has expired");
                };
                match kind {
                    "order" => self.order(id),
                    "authz" => (200, self.authorization(id, &order), Vec::new()),
                    "chal" => self.challenge(id, &account),
                    "finalize" => self.finalize(id, &order, &payload),
                    "cert" => (200, Value::String(order.chain.unwrap_or_default()), Vec::new()),
                    _ => problem(404, "malformed", "there is nothing here"),
                }
            }
        }
    }

    /// Who sent it (an account's URL), and its payload, once nonce, URL and signature are right (RFC 8555 section 6).
    fn verified(&self, path: &str, body: &[u8]) -> Result<(String, Value), Answer> {
        let malformed = |what: &str| problem(400, "malformed", what);
        let jws: Value = serde_json::from_slice(body).map_err(|_| malformed("no JWS"))?;
        let part = |name: &str| jws[name].as_str().map(str::to_owned).ok_or_else(|| malformed(name));
        let (protected, payload, signature) = (part("protected")?, part("payload")?, part("signature")?);
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("no base64url"));
        let header: Value = serde_json::from_slice(&decode(&protected)?).map_err(|_| malformed("no header"))?;
        let mut inner = self.lock();
        let fresh = header["nonce"].as_str().is_some_and(|nonce| inner.nonces.remove(nonce));
        let spoilt = inner.faults.bad_nonce > 0;
        inner.faults.bad_nonce = inner.faults.bad_nonce.saturating_sub(1);
        if !fresh || spoilt {
            return Err(problem(400, "badNonce", "the nonce is not one of ours, or was used"));
        }
        if header["alg"] != "ES256" || header["url"] != format!("{}{path}", self.url) {
            return Err(malformed("wrong algorithm or URL"));
        }
        let jwk = &header["jwk"];
        let (account, key) = match header["kid"].as_str() {
            Some(kid) => {
                let known = inner.accounts.get(kid).ok_or_else(|| problem(400, "accountDoesNotExist", kid))?;
                (kid.to_owned(), known.0.clone())
            }
            None if path == "/new-account" => {
                let field = |name: &str| decode(jwk[name].as_str().unwrap_or_default());
                let key = [&[4][..], &field("x")?, &field("y")?].concat();
                let thumb = json!({ "crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"] });
                // serde_json sorts the keys, as RFC 7638 wants them.
                let thumb = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, thumb.to_string().as_bytes()));
                inner.seen.accounts += 1;
                let url = format!("{}/account/{}", self.url, inner.seen.accounts);
                inner.accounts.insert(url.clone(), (key.clone(), thumb));
                (url, key)
            }
            None => return Err(malformed("an account's URL is wanted")),
        };
        let signed = format!("{protected}.{payload}");
        let good =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), &decode(&signature)?);
        good.map_err(|_| malformed("the signature is wrong"))?;
        let payload = decode(&payload)?;
        Ok((account, serde_json::from_slice(&payload).unwrap_or(Value::Null)))
    }

    fn new_order(&self, payload: &Value) -> Answer {
        let mut inner = self.lock();
        if inner.faults.rate_limited.0 > 0 {
            inner.faults.rate_limited.0 -= 1;
            inner.seen.limited.push(Instant::now());
            let mut answer = problem(429, "rateLimited", "too many orders");
            answer.2.push(("retry-after", inner.faults.rate_limited.1.to_string()));
            return answer;
        }
        let host = payload["identifiers"][0]["value"].as_str().unwrap_or_default().to_owned();
        inner.counter += 1;
        let (id, token) =
            (inner.counter.to_string(), BASE64_URL_SAFE_NO_PAD.encode(format!("token-{}", inner.counter)));
        inner.seen.orders.push((host.clone(), Instant::now()));
        let (status, authorization) = ("pending", "pending");
        let order = Order { host, status, authorization, token, told: false, chain: None, before: "pending" };
        inner.orders.insert(id.clone(), order);
        drop(inner);
        let (_, body, _) = self.order(&id);
        (201, body, vec![("location", format!("{}/order/{id}", self.url))])
    }

    fn order(&self, id: &str) -> Answer {
        let mut inner = self.lock();
        let order = inner.orders[id].clone();
        let stale = inner.faults.stale_polls > 0 && order.status != order.before && order.status != "invalid";
        inner.faults.stale_polls -= u32::from(stale);
        let status = if stale { order.before } else { order.status };
        let at = |kind: &str| format!("{}/{kind}/{id}", self.url);
        let mut body = json!({
            "status": status, "identifiers": [{ "type": "dns", "value": order.host }],
            "authorizations": [at("authz")], "finalize": at("finalize"),
        });
        if status == "valid" {
            body["certificate"] = json!(at("cert"));
        }
        (200, body, Vec::new())
    }

    fn authorization(&self, id: &str, order: &Order) -> Value {
        let status = match order.authorization {
            "pending" if order.told => "processing",
            other => other,
        };
        let mut challenge = json!({
            "type": "http-01", "status": status, "token": order.token, "url": format!("{}/chal/{id}", self.url),
        });
        if status == "invalid" {
            challenge["error"] = problem(403, "unauthorized", "the challenge was not found there").1;
        }
        let other = json!({ "type": "dns-01", "status": "pending", "token": "x", "url": format!("{}/none", self.url) });
        json!({
            "status": order.authorization, "identifier": { "type": "dns", "value": order.host },
            "challenges": [other, challenge],
        })
    }

    fn challenge(self: &Arc<Self>, id: &str, account: &str) -> Answer {
        let mut inner = self.lock();
        inner.seen.told += 1;
        let thumb = inner.accounts.get(account).map(|(_, thumb)| thumb.clone()).unwrap_or_default();
        let Some(order) = inner.orders.get_mut(id) else { return problem(404, "malformed", "no such order") };
        if order.authorization != "pending" || order.told {
            return problem(400, "malformed", "the authorization is not pending");
        }
        order.told = true;
        let order = order.clone();
        drop(inner);
        tokio::spawn(self.clone().look(id.to_owned(), order.clone(), thumb));
        let url = format!("{}/chal/{id}", self.url);
        (200, json!({ "type": "http-01", "status": "processing", "token": order.token, "url": url }), Vec::new())
    }

    /// Looks for the challenge, once, as authorities do.
    async fn look(self: Arc<Self>, id: String, order: Order, thumb: String) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.lock().faults.hold {
            assert!(Instant::now() < end, "challenges are held back for good");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let path = format!("/.well-known/acme-challenge/{}", order.token);
        let found = get(self.hosts, &order.host, &path).await;
        let wanted = format!("{}.{thumb}", order.token);
        let mut inner = self.lock();
        let refuses = inner.faults.invalid > 0;
        inner.faults.invalid = inner.faults.invalid.saturating_sub(1);
        let good = match found {
            Ok((head, body)) => head.status == 200 && body == wanted,
            Err(_) => false,
        };
        if !good {
            inner.seen.wrong.push(format!("the challenge of {} was not to be found", order.host));
        }
        if let Some(order) = inner.orders.get_mut(&id) {
            let good = good && !refuses;
            order.authorization = if good { "valid" } else { "invalid" };
            order.status = if good { "ready" } else { "invalid" };
        }
    }

    fn finalize(&self, id: &str, order: &Order, payload: &Value) -> Answer {
        let mut inner = self.lock();
        if inner.faults.expired > 0 {
            inner.faults.expired -= 1;
            inner.orders.remove(id);
            return problem(404, "malformed", "the order has expired");
        }
        if order.status != "ready" {
            return problem(403, "orderNotReady", order.status);
        }
        let csr = BASE64_URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap_or_default()).unwrap_or_default();
        let chain = match self.authority.issue(&csr, &order.host, inner.lifetime) {
            Ok(chain) => chain,
            Err(why) => {
                inner.seen.wrong.push(why.clone());
                return problem(400, "badCSR", &why);
            }
        };
        inner.seen.issued.push(order.host.clone());
        if let Some(order) = inner.orders.get_mut(id) {
            (order.chain, order.status, order.before) = (Some(chain), "valid", "processing");
        }
        drop(inner);
        self.order(id)
    }
}
