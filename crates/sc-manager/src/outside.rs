//! The outside sources of scaling policies: Prometheus queries and plain numbers over HTTP, asked again and again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use sc_core::{
    AppId,
    records::{Level, UnixMs},
    scaling::PolicySpec,
};
use sc_scale::Outside;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{waiting::chain, world::World};

/// How long one answer may take, and be at most in bytes.
const LIMIT: (Duration, usize) = (Duration::from_secs(3), 1 << 20);
/// How often is looked who is due.
const EVERY: Duration = Duration::from_millis(500);

/// What the sources said last.
#[derive(Debug, Default)]
pub struct Sources(Mutex<BTreeMap<(AppId, u16), Answer>>);

#[derive(Debug, Clone)]
struct Answer {
    policy: PolicySpec,
    due_ms: UnixMs,
    last: Option<Outside>,
    failing: bool,
}

impl Sources {
    /// What is known for an app's policies.
    pub fn of(&self, app: &AppId) -> Vec<Outside> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|((id, _), _)| id == app).filter_map(|(_, answer)| answer.last).collect()
    }

    /// Who is to be asked now; forgets what is no longer a policy.
    fn due(&self, policies: &BTreeMap<(AppId, u16), PolicySpec>, now: UnixMs) -> Vec<((AppId, u16), PolicySpec)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key, answer| policies.get(key) == Some(&answer.policy));
        let due = policies.iter().filter(|(key, _)| all.get(key).is_none_or(|answer| answer.due_ms <= now));
        due.map(|(key, policy)| (key.clone(), policy.clone())).collect()
    }

    /// Notes an answer. True when the source has begun to fail, or has stopped failing.
    fn note(&self, key: (AppId, u16), policy: PolicySpec, now: UnixMs, value: Option<f64>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let every_ms = policy.source().map_or(0, |(_, every_ms)| every_ms);
        let before = all.get(&key);
        let changed = before.is_some_and(|answer| answer.failing) != value.is_none();
        let fresh = value.map(|value| Outside { policy: key.1, at_ms: now, value });
        let last = fresh.or_else(|| before.and_then(|answer| answer.last));
        all.insert(key, Answer { policy, due_ms: now + every_ms, last, failing: value.is_none() });
        changed
    }
}

/// Asks for ever.
pub async fn ask(world: &World) {
    loop {
        sleep(EVERY).await;
        let Some(desired) = world.desired().filter(|_| world.fence().is_some()) else { continue };
        let scaled = desired.apps.iter().filter(|(_, app)| app.app.scale.auto && !app.app.stopped);
        let policies = scaled.flat_map(|(id, app)| {
            let sources = app.app.scale.policies.iter().enumerate().filter(|(_, policy)| policy.source().is_some());
            sources.map(|(i, policy)| ((id.clone(), i as u16), policy.clone()))
        });
        let due = world.outside.due(&policies.collect(), world.now_ms());
        join_all(due.into_iter().map(|(key, policy)| one(world, key, policy))).await;
    }
}

async fn one(world: &World, key: (AppId, u16), policy: PolicySpec) {
    let answer = fetch(&policy).await;
    let (id, metric) = (key.0.clone(), policy.metric());
    let changed = world.outside.note(key, policy, world.now_ms(), answer.as_ref().ok().copied());
    if changed {
        let (level, text) = match answer {
            Ok(value) => (Level::Info, format!("{id}: its {metric} source answers again: {value}")),
            Err(error) => {
                (Level::Warning, format!("{id}: its {metric} source fails, nothing is taken away meanwhile: {error}"))
            }
        };
        world.events.add(world.events.event(level, "source", Some(&id), text));
    }
}

/// Reads the number out of a body.
type Read = fn(&[u8]) -> Result<f64, String>;

/// Asks a policy's source once.
///
/// # Errors
/// When it has none, does not answer with one number in time, or the number is below 0.
pub async fn fetch(policy: &PolicySpec) -> Result<f64, String> {
    let (url, read): (String, Read) = match policy {
        PolicySpec::Prometheus { url, query, .. } => {
            (format!("{}/api/v1/query?query={}", url.trim_end_matches('/'), escaped(query)), prometheus)
        }
        PolicySpec::Http { url, .. } => (url.clone(), plain),
        _ => return Err("it has no source".to_owned()),
    };
    let body = match timeout(LIMIT.0, get(&url)).await {
        Ok(body) => body.map_err(|error| format!("{url}: {error}"))?,
        Err(_late) => return Err(format!("{url}: no answer within {} s", LIMIT.0.as_secs())),
    };
    let value = read(&body).map_err(|error| format!("{url}: {error}"))?;
    let sound = value.is_finite() && value >= 0.0;
    sound.then_some(value).ok_or_else(|| format!("{url}: {value} is no amount"))
}

async fn get(url: &str) -> Result<Bytes, String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// is asked")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let addr =
        if host.rsplit(']').next().unwrap_or(host).contains(':') { host.to_owned() } else { format!("{host}:80") };
    let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let request = Request::get(if path.is_empty() { "/" } else { path }).header(header::HOST, host);
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| chain(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIMIT.1).collect().await.map_err(|e| e.to_string())?.to_bytes();
    status.is_success().then_some(body).ok_or_else(|| format!("status {status}"))
}

/// A query as part of a URL: everything but unreserved characters escaped (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn plain(body: &[u8]) -> Result<f64, String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(64)]);
    text.trim().parse().map_err(|_| format!("{:?} is no number", text.trim()))
}

/// The one value of an instant query (Prometheus HTTP API, `/api/v1/query`): a scalar, or a vector of one.
fn prometheus(body: &[u8]) -> Result<f64, String> {
    let answer: serde_json::Value = serde_json::from_slice(body).map_err(|_| "no JSON, no Prometheus".to_owned())?;
    let result = &answer["data"]["result"];
    let pair = match answer["data"]["resultType"].as_str() {
        Some("scalar") => result,
        Some("vector") => match result.as_array().map_or(0, Vec::len) {
            1 => &result[0]["value"],
            n => return Err(format!("the query gives {n} values, one is needed: try sum(…)")),
        },
        _ => return Err("the query gives neither a scalar nor a vector".to_owned()),
    };
    pair[1].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| "the value is no number".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn one_value_is_read_and_others_are_refused() {
        let vector =
            |result: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#);
        let one = r#"{"metric":{},"value":[1435781451.781,"12.5"]}"#;
        assert_eq!(prometheus(vector(one).as_bytes()), Ok(12.5));
        assert!(prometheus(vector("").as_bytes()).unwrap_err().contains("0 values"));
        assert!(prometheus(vector(&format!("{one},{one}")).as_bytes()).unwrap_err().contains("2 values"));
        assert_eq!(prometheus(br#"{"data":{"resultType":"scalar","result":[1,"3"]}}"#), Ok(3.0));
        assert!(prometheus(b"<html>").is_err());
        assert_eq!((plain(b" 7\n"), plain(b"many").is_err()), (Ok(7.0), true));
    }

    #[tokio::test]
    async fn a_source_is_asked_over_http() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1_024];
            let n = stream.read(&mut request).await.unwrap();
            let body = r#"{"data":{"resultType":"scalar","result":[1,"42"]}}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..n]).lines().next().unwrap_or_default().to_owned()
        });
        let policy = PolicySpec::Prometheus { url, query: "sum(q)".into(), target: 1.0, every_ms: 1_000 };
        assert_eq!(fetch(&policy).await, Ok(42.0));
        assert_eq!(server.await.unwrap(), "GET /api/v1/query?query=sum%28q%29 HTTP/1.1");
        assert!(fetch(&policy).await.unwrap_err().contains("refused"), "nobody listens any more");
    }

    #[test]
    fn a_failing_source_is_told_once_and_its_last_answer_grows_old() {
        let (answers, id) = (Sources::default(), AppId::in_default("web").unwrap());
        let policy = PolicySpec::Http { url: "http://x".into(), target: None, every_ms: 1_000 };
        let key = || (id.clone(), 0);
        let policies = BTreeMap::from([(key(), policy.clone())]);
        assert_eq!(answers.due(&policies, 0).len(), 1);
        assert!(!answers.note(key(), policy.clone(), 1_000, Some(3.0)));
        assert!(answers.due(&policies, 1_500).is_empty());
        assert!(answers.note(key(), policy.clone(), 2_000, None), "it begins to fail");
        assert!(!answers.note(key(), policy.clone(), 3_000, None));
        assert_eq!(answers.of(&id), [Outside { policy: 0, at_ms: 1_000, value: 3.0 }]);
        assert!(answers.due(&BTreeMap::new(), 9_000).is_empty());
        assert!(answers.of(&id).is_empty(), "the policy is gone");
    }
}
