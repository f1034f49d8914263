//! A backend that writes down every byte and takes nothing for granted.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What came over one connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    pub bytes: Vec<u8>,
    /// Why the bytes cannot be cut into requests in one way only.
    pub fault: Option<String>,
}

/// One request as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// All that came.
#[derive(Default)]
struct Record {
    connections: Vec<Connection>,
    /// In the order of arrival.
    requests: Vec<Seen>,
}

/// A running backend.
pub struct Backend {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Answers every whole request with `answer`; nothing more is read after one that is faulty.
    pub async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Record>>::default();
        let (list, answer) = (seen.clone(), Arc::new(answer.into()));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut list = list.lock().unwrap();
                    list.connections.push(Connection::default());
                    list.connections.len() - 1
                };
                tokio::spawn(serve(stream, list.clone(), number, answer.clone()));
            }
        });
        Self { addr, seen, task }
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.seen
            .lock()
            .unwrap()
            .connections
            .iter()
            .filter(|connection| !connection.bytes.is_empty())
            .cloned()
            .collect()
    }

    /// All requests, in the order in which they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().requests.clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, list: Arc<Mutex<Record>>, number: usize, answer: Arc<Vec<u8>>) {
    let (mut start, mut buffer) = (0, vec![0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        let mut answers = 0;
        {
            let mut list = list.lock().unwrap();
            let Record { connections, requests } = &mut *list;
            let connection = &mut connections[number];
            connection.bytes.extend_from_slice(&buffer[..read]);
            while connection.fault.is_none() {
                match cut(&connection.bytes[start..]) {
                    Ok(Some((seen, used))) => {
                        requests.push(seen);
                        start += used;
                        answers += 1;
                    }
                    Ok(None) => break,
                    Err(fault) => connection.fault = Some(fault),
                }
            }
        }
        for _ in 0..answers {
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

/// The first request of some bytes and its length, or none yet, or why its framing has more than one reading.
fn cut(bytes: &[u8]) -> Result<Option<(Seen, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let odd = head.split("\r\n").find(|line| line.contains(['\r', '\n', '\0']) || line.starts_with([' ', '\t']));
    if let Some(line) = odd {
        return Err(format!("an odd line: {line:?}"));
    }
    if head.split("\r\n").next().unwrap_or_default().split(' ').count() != 3 {
        return Err(format!("an odd request line in {head:?}"));
    }
    let seen = Seen { head, body: Vec::new() };
    let rest = &bytes[end + 4..];
    let body = match (&seen.values("content-length")[..], &seen.values("transfer-encoding")[..]) {
        ([], []) => Some((Vec::new(), 0)),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| format!("length {length:?}"))?;
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        ([], ["chunked"]) => chunked(rest)?,
        (lengths, codings) => return Err(format!("framed by {lengths:?} and {codings:?}")),
    };
    Ok(body.map(|(body, used)| (Seen { body, ..seen }, end + 4 + used)))
}

/// A chunked body and its length, with the strictest reading.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
        let digits = line.split(';').next().unwrap_or_default();
        if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("chunk size {line:?}"));
        }
        let size = usize::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
        at += end + 2;
        if size == 0 {
            return trailers(bytes, at).map(|end| end.map(|end| (body, end)));
        }
        let Some(data) = bytes.get(at..at.saturating_add(size).saturating_add(2)) else { return Ok(None) };
        let Some(data) = data.strip_suffix(b"\r\n") else { return Err(format!("a chunk of {size} does not end")) };
        body.extend_from_slice(data);
        at += size + 2;
    }
}

fn trailers(bytes: &[u8], mut at: usize) -> Result<Option<usize>, String> {
    loop {
        match find(&bytes[at..], b"\r\n") {
            None => return Ok(None),
            Some(0) => return Ok(Some(at + 2)),
            Some(length) if bytes[at..at + length].contains(&b':') => at += length + 2,
            Some(length) => return Err(format!("trailer {:?}", String::from_utf8_lossy(&bytes[at..at + length]))),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
