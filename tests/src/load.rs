//! A load with exact accounting: every request is counted once as good or as failed, with time and cause.
//!
//! Requests start on a schedule (an open loop: a slow answer delays no other request), up to a bound in flight. Most
//! go over kept connections, some over fresh ones. A GET asks who answers; a POST sends a body of its own that must come
//! back byte by byte. Either counts as good only if the right app answered.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// The longest a request may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(40);

/// Whom to ask, and who must answer.
#[derive(Debug, Clone)]
pub struct Target {
    /// The app that must answer.
    pub app: String,
    /// The `Host` header.
    pub host: String,
    /// What goes before `/whoami` and `/echo`: empty, or a path prefix.
    pub prefix: String,
}

impl Target {
    /// An app reached by its host name.
    pub fn host(app: &str, host: &str) -> Self {
        Self { app: app.into(), host: host.into(), prefix: String::new() }
    }

    /// An app reached by a path prefix.
    pub fn path(app: &str, prefix: &str) -> Self {
        Self { app: app.into(), host: "localhost".into(), prefix: prefix.into() }
    }
}

/// What to send.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// The proxy.
    pub proxy: SocketAddr,
    /// Asked in turn.
    pub targets: Vec<Target>,
    /// Requests per second, all together.
    pub rate: u32,
    /// Every n-th request is a POST.
    pub post_every: u64,
    /// Every n-th request goes over a connection of its own.
    pub fresh_every: u64,
    /// Bytes of a POST's body.
    pub body_bytes: usize,
    /// Requests in flight, at most; one due beyond that waits.
    pub in_flight_max: usize,
}

impl LoadSpec {
    /// 150 requests a second, a third of them POSTs of 2 KiB, every tenth over a fresh connection.
    pub fn steady(proxy: SocketAddr, targets: Vec<Target>) -> Self {
        Self { proxy, targets, rate: 150, post_every: 3, fresh_every: 10, body_bytes: 2048, in_flight_max: 256 }
    }

    /// At another rate.
    pub fn rate(self, rate: u32) -> Self {
        Self { rate, ..self }
    }
}

/// A request that did not go well.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its number, from 0.
    pub number: u64,
    /// When it was sent, since the load began.
    pub sent: Duration,
    /// When it failed, since the load began.
    pub failed: Duration,
    /// Whether it was a POST.
    pub post: bool,
    /// What happened.
    pub cause: String,
}

/// What became of the requests.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Started.
    pub sent: u64,
    /// Answered as they should be.
    pub ok: u64,
    /// The others.
    pub failed: Vec<Failure>,
    /// Good answers by replica.
    pub by_replica: BTreeMap<String, u64>,
    /// Good answers by version.
    pub by_version: BTreeMap<String, u64>,
    /// When the latest request was sent that a replica answered well.
    pub latest: BTreeMap<String, SystemTime>,
    /// For how long requests were sent, once that is over.
    pub lasted: Duration,
}

impl Tally {
    /// Requests sent a second; 0 as long as it goes on.
    pub fn rate(&self) -> f64 {
        let seconds = self.lasted.as_secs_f64();
        if seconds > 0.0 { self.sent as f64 / seconds } else { 0.0 }
    }

    /// Asserts that every request was answered, and that there were at least `least`.
    ///
    /// # Panics
    /// When one was not; shows the first ones.
    #[track_caller]
    pub fn all_good(&self, least: u64) {
        let first: Vec<_> = self.failed.iter().take(10).collect();
        assert!(
            self.failed.is_empty(),
            "{} of {} requests failed ({:.0} were sent a second), the first ones: {first:#?}",
            self.failed.len(),
            self.sent,
            self.rate()
        );
        assert_eq!(self.sent, self.ok, "every request is counted once");
        assert!(self.sent >= least, "only {} requests were sent, too few to show anything", self.sent);
    }
}

/// A running load. Dropping it ends it.
pub struct Load {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

struct Shared {
    spec: LoadSpec,
    begun: Instant,
    stop: AtomicBool,
    next: AtomicU64,
    tally: Mutex<Tally>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    in_flight: tokio::sync::Semaphore,
}

impl Load {
    /// Begins.
    pub fn start(spec: LoadSpec) -> Self {
        let in_flight = tokio::sync::Semaphore::new(spec.in_flight_max);
        let shared = Arc::new(Shared {
            spec,
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            tally: Mutex::default(),
            idle: Mutex::default(),
            in_flight,
        });
        Self { driver: tokio::spawn(drive(shared.clone())), shared }
    }

    /// What has become of the requests that ended so far.
    pub fn so_far(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `n` more requests went well.
    pub async fn goes_on(&self, n: u64) {
        let before = self.so_far().ok;
        crate::poll(crate::secs(60), "requests to be served", async || (self.so_far().ok >= before + n).then_some(()))
            .await;
    }

    /// Lets it go on until at least `least` requests were answered in all, ends it, and asserts that none failed. What happens
    /// under a load is over the sooner the faster all is: this is what makes sure that there was a load.
    ///
    /// # Panics
    /// When a request failed or so many are not answered in time.
    pub async fn all_good(self, least: u64) {
        let enough = async || (self.so_far().sent >= least).then_some(());
        crate::poll(crate::secs(60), "enough requests to be sent", enough).await;
        self.stop().await.all_good(least);
    }

    /// Ends it when every request has its answer.
    ///
    /// # Panics
    /// When the answers do not come.
    pub async fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        let lasted = self.shared.begun.elapsed();
        let all =
            self.shared.in_flight.acquire_many(u32::try_from(self.shared.spec.in_flight_max).expect("a small bound"));
        let all = timeout(PATIENCE + Duration::from_secs(10), all).await.expect("every request to end");
        drop(all);
        Tally { lasted, ..self.so_far() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.driver.abort();
    }
}

async fn drive(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / shared.spec.rate);
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        // Held until the request has its answer, so that `stop` can wait for all of them.
        let Ok(permit) = shared.in_flight.acquire().await else { return };
        permit.forget();
        if shared.stop.load(Ordering::Relaxed) {
            shared.in_flight.add_permits(1);
            return;
        }
        tokio::spawn(one(shared.clone()));
    }
}

async fn one(shared: Arc<Shared>) {
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    shared.tally.lock().unwrap_or_else(PoisonError::into_inner).sent += 1;
    let (sent, at) = (shared.begun.elapsed(), SystemTime::now());
    let post = number.is_multiple_of(shared.spec.post_every);
    let outcome = timeout(PATIENCE, ask(&shared, number, post)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    let mut tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok((replica, version)) => {
            tally.ok += 1;
            // Answers may come in another order than requests were sent.
            tally.latest.entry(replica.clone()).and_modify(|latest| *latest = at.max(*latest)).or_insert(at);
            *tally.by_replica.entry(replica).or_default() += 1;
            *tally.by_version.entry(version).or_default() += 1;
        }
        Err(cause) => tally.failed.push(Failure { number, sent, failed: shared.begun.elapsed(), post, cause }),
    }
    drop(tally);
    shared.in_flight.add_permits(1);
}

/// One request; gives the replica and the version that answered.
async fn ask(shared: &Shared, number: u64, post: bool) -> Result<(String, String), String> {
    let spec = &shared.spec;
    let turn = usize::try_from(number / spec.post_every).unwrap_or(0);
    let target = &spec.targets[turn % spec.targets.len()];
    let fresh = number.is_multiple_of(spec.fresh_every);
    let body = if post { body(number, spec.body_bytes) } else { Bytes::new() };
    let path = format!("{}/{}?id={number}", target.prefix, if post { "echo" } else { "whoami" });
    let request = Request::builder()
        .method(if post { Method::POST } else { Method::GET })
        .uri(path)
        .header("host", &target.host)
        .header("x-request-id", number)
        .body(Full::new(body.clone()))
        .map_err(|e| e.to_string())?;

    let mut connection = connection(shared, fresh).await.map_err(|e| format!("connect: {e}"))?;
    let answer = connection.send_request(request).await.map_err(|e| format!("send: {}", chain(&e)))?;
    let (head, answered) = whole(answer).await.map_err(|e| format!("receive: {e}"))?;
    if head.status != 200 {
        return Err(format!("{} {:?} {}", head.status, head.headers, String::from_utf8_lossy(&answered)));
    }
    if !fresh {
        shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
    check(target, post, &body, &head, &answered)
}

fn check(
    target: &Target,
    post: bool,
    sent: &Bytes,
    head: &hyper::http::response::Parts,
    body: &Bytes,
) -> Result<(String, String), String> {
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let replica = header("x-replica");
    let app = replica.rsplit_once('-').map_or("", |(app, _)| app);
    if app != target.app {
        return Err(format!("answered by {replica:?} and not by {}", target.app));
    }
    if post && body != sent {
        return Err(format!("the body came back changed: {} bytes sent, {} received", sent.len(), body.len()));
    }
    Ok((replica, header("x-version")))
}

/// A body that no other request has.
fn body(number: u64, bytes: usize) -> Bytes {
    let line = format!("request {number} of the load;");
    line.bytes().cycle().take(bytes).collect::<Vec<_>>().into()
}

async fn whole(answer: Response<Incoming>) -> Result<(hyper::http::response::Parts, Bytes), String> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|e| chain(&e))?.to_bytes();
    Ok((head, body))
}

/// A kept connection that is open and free, or a new one.
async fn connection(shared: &Shared, fresh: bool) -> Result<SendRequest<Full<Bytes>>, String> {
    while let Some(mut kept) = if fresh { None } else { kept(shared) } {
        if !kept.is_closed() && kept.ready().await.is_ok() {
            return Ok(kept);
        }
    }
    connect(shared.spec.proxy).await
}

fn kept(shared: &Shared) -> Option<SendRequest<Full<Bytes>>> {
    shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// A connection of HTTP/1.1.
pub async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    tokio::spawn(connection);
    Ok(send)
}

/// One request with a body over a fresh connection: status and body of the answer.
///
/// # Errors
/// When there is no whole answer within 40 s.
pub async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<(u16, String), String> {
    let ask = async {
        let mut connection = connect(to).await?;
        let (head, body) = whole(connection.send_request(request).await.map_err(|e| chain(&e))?).await?;
        Ok((head.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// One GET over a fresh connection: status, headers and body.
///
/// # Errors
/// When there is no whole answer within 40 s.
pub async fn get(proxy: SocketAddr, host: &str, path: &str) -> Result<(hyper::http::response::Parts, String), String> {
    let ask = async {
        let mut connection = connect(proxy).await?;
        let request = Request::get(path).header("host", host).body(Full::default()).map_err(|e| e.to_string())?;
        let (head, body) = whole(connection.send_request(request).await.map_err(|e| chain(&e))?).await?;
        Ok((head, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}
