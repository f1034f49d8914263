//! Requests with no body, of clients whom hyper serves, on the thread's own connections to backends (HTTP/1.1, no TLS).
//!
//! With hyper on that side too a request wakes the task of its connection to the backend and its own again, its head passes a
//! channel, and a copy of it is kept in case it must be sent again. Here the request's task writes to the backend and reads
//! from it, as on the fast path, whose idle connections these are.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    ext::ReasonPhrase,
    header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, UPGRADE},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{Worker, client::Transport, fast::Buf};
use crate::http1::{self, Answer, fields};

/// A body of which more is to come than this is read into memory that goes on as it is; less is copied out of a buffer that many share.
const LARGE: u64 = 16 * 1024;
/// How much of such a body is read at once.
const PIECE: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The backend has got nothing of the request.
    Unsent,
    /// The backend closed or reset the connection with no byte of an answer.
    Silent,
    /// The backend's answer broke off or is malformed.
    Broken,
    /// The head of the backend's answer is longer than is taken.
    TooLong,
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the backend's answer broke off")]
pub(super) struct Broken;

/// Whether a request can be sent here: it has no body, and does not ask for another protocol.
pub(super) fn fits<B: Body>(request: &Request<B>) -> bool {
    request.body().is_end_stream() && !request.headers().contains_key(UPGRADE)
}

/// Sends a request, and waits for the head of the answer; the future is pinned by the caller.
pub(super) async fn send<B>(
    worker: &Rc<Worker>,
    request: &Request<B>,
    mut socket: TcpStream,
) -> Result<Response<Arrival>, Failure> {
    let mut head = worker.buffers.text();
    let host = if request.headers().contains_key(HOST) { None } else { socket.peer_addr().ok() };
    write_head(request, host, &mut head);
    let mut at = 0;
    while at < head.len() {
        let written = poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, &head[at..])).await;
        at += written.ok().filter(|n| *n > 0).ok_or(if at == 0 { Failure::Unsent } else { Failure::Silent })?;
    }
    worker.buffers.give_back_text(head);
    let (to_head, mut reply) = (request.method() == Method::HEAD, Buf::default());
    loop {
        let read = poll_fn(|cx| match reply.is_empty() && socket.poll_readable(cx).is_pending() {
            true => Poll::Pending,
            // Beyond what is enough for nearly all heads.
            false => reply.poll_fill(&worker.buffers, reply.is_full(), cx, &mut socket),
        });
        if !matches!(read.await, Ok(1..)) {
            return Err(if reply.is_empty() { Failure::Silent } else { Failure::Broken });
        }
        while !reply.is_empty() {
            let Some((head, body, keeps)) = read_head(&mut reply, to_head)? else {
                if reply.is_at_limit() {
                    return Err(Failure::TooLong);
                }
                break;
            };
            match head.status().as_u16() {
                101 => return Err(Failure::Broken), // nobody asked
                ..200 => {}                         // an interim answer
                _ => {
                    reply.rest(&worker.buffers);
                    let arrival = Arrival { worker: worker.clone(), socket, reply, body, keeps, ended: false };
                    return Ok(head.map(|()| arrival));
                }
            }
        }
    }
}

/// Writes the head of a request that is fit to go on. `host`: where it goes, if it has no `Host` ([`crate::headers::ensure_host`]).
fn write_head<B>(request: &Request<B>, host: Option<SocketAddr>, out: &mut Vec<u8>) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[request.method().as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
    if let Some(host) = host {
        put(&[b"host: ", host.to_string().as_bytes(), b"\r\n"]);
    }
    for (name, value) in request.headers() {
        put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    // Where a body is to be expected, that there is none is said (RFC 9110 section 8.6).
    let expected = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if expected && !request.headers().contains_key(CONTENT_LENGTH) {
        put(&[b"content-length: 0\r\n"]);
    }
    put(&[b"\r\n"]);
}

/// Takes a head in, if there is a whole one; the body that follows it, and whether the connection can serve again after that.
fn read_head(reply: &mut Buf, to_head: bool) -> Result<Option<(Response<()>, http1::Body, bool)>, Failure> {
    let mut room = fields();
    let filled = reply.filled();
    let read = match http1::answer(filled, to_head, &mut room).map_err(|_| Failure::Broken)? {
        Answer::Head(read) => read,
        Answer::ManyFields => return Err(Failure::TooLong),
        Answer::Partial => return Ok(None),
    };
    // All values are parts of one copy.
    let text = Bytes::copy_from_slice(&filled[..read.len]);
    let start = filled.as_ptr() as usize;
    let mut head = Response::new(());
    head.headers_mut().reserve(read.fields.len() + 2);
    for field in read.fields {
        let at = (field.value.as_ptr() as usize).wrapping_sub(start);
        let value = if field.value.is_empty() { Bytes::new() } else { text.slice(at..at + field.value.len()) };
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Failure::Broken)?;
        head.headers_mut().append(name, HeaderValue::from_maybe_shared(value).map_err(|_| Failure::Broken)?);
    }
    let status = StatusCode::from_u16(read.status).map_err(|_| Failure::Broken)?;
    *head.status_mut() = status;
    if status.canonical_reason() != Some(read.reason)
        && let Ok(reason) = ReasonPhrase::try_from(read.reason.as_bytes())
    {
        head.extensions_mut().insert(reason);
    }
    let (body, keeps, len) = (http1::Body::new(read.body), read.keeps, read.len);
    reply.consume(len);
    Ok(Some((head, body, keeps)))
}

/// A body as it comes from a backend.
pub(super) struct Arrival {
    worker: Rc<Worker>,
    socket: TcpStream,
    /// What has come of it and was not taken.
    reply: Buf,
    body: http1::Body,
    /// The connection can serve again once the body has come.
    keeps: bool,
    /// Its trailers were given.
    ended: bool,
}

impl Arrival {
    /// The next frame; none of them is empty.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        while !self.body.is_done() {
            if self.reply.is_empty() && self.body.left() > LARGE {
                let data = ready!(self.poll_piece(cx))?;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.reply.is_empty() {
                ready!(self.socket.poll_readable(cx));
                match ready!(self.reply.poll_fill(&self.worker.buffers, false, cx, &mut self.socket)) {
                    Ok(0) => self.body.end().map_err(|_| Broken)?,
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Some(Err(Broken))),
                }
            }
            let data = self.take_read()?;
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        let trailers = if std::mem::replace(&mut self.ended, true) { None } else { self.trailers() };
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// Reads into memory of its own.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        ready!(self.socket.poll_readable(cx));
        let most = self.body.left().min(PIECE as u64) as usize;
        let mut piece = BytesMut::zeroed(most);
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room)).map_err(|_| Broken)?;
        let n = room.filled().len();
        piece.truncate(n);
        let step = self.body.next(&piece).map_err(|_| Broken)?;
        // Nothing: the backend has closed too early.
        Poll::Ready(if step.used > 0 { Ok(piece.freeze()) } else { Err(Broken) })
    }

    /// All that was read, out of its chunks.
    fn take_read(&mut self) -> Result<Bytes, Broken> {
        let mut data = BytesMut::with_capacity(self.reply.filled().len());
        while !self.reply.is_empty() && !self.body.is_done() {
            let step = self.body.next(self.reply.filled()).map_err(|_| Broken)?;
            data.extend_from_slice(&self.reply.filled()[step.data]);
            self.reply.consume(step.used);
        }
        self.reply.rest(&self.worker.buffers);
        Ok(data.freeze())
    }

    /// The trailers that may go on.
    fn trailers(&self) -> Option<HeaderMap> {
        let lines = [&self.body.trailers()[..], b"\r\n"].concat();
        let mut room = [httparse::EMPTY_HEADER; 32];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&lines, &mut room) else {
            return None;
        };
        let read = fields.iter().filter_map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(field.value).ok()?))
        });
        let trailers: HeaderMap = read.collect();
        (!trailers.is_empty()).then_some(trailers)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_done() && (self.ended || self.body.trailers().is_empty())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.body {
            http1::Body::Length(left) => SizeHint::with_exact(*left),
            http1::Body::Done => SizeHint::with_exact(0),
            http1::Body::Chunked(_) | http1::Body::Close => SizeHint::default(),
        }
    }

    /// Its connection, if that can serve again.
    pub(super) fn into_socket(self) -> Option<TcpStream> {
        (self.body.is_done() && self.keeps && self.reply.is_empty()).then_some(self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: &Request<()>) -> String {
        let mut out = Vec::new();
        write_head(request, None, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_written_with_all_it_has() {
        let request = Request::get("/a?b").header("host", "web").header("x", "1").header("x", "2").body(()).unwrap();
        assert_eq!(written(&request), "GET /a?b HTTP/1.1\r\nhost: web\r\nx: 1\r\nx: 2\r\n\r\n");
        assert_eq!(written(&Request::options("*").body(()).unwrap()), "OPTIONS * HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_head_without_a_host_says_where_it_goes() {
        let mut out = Vec::new();
        write_head(&Request::get("/").body(()).unwrap(), Some("[::1]:80".parse().unwrap()), &mut out);
        assert_eq!(out, b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
    }

    #[test]
    fn where_a_body_is_expected_it_is_said_that_there_is_none() {
        assert_eq!(written(&Request::post("/").body(()).unwrap()), "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        let said = Request::put("/").header("content-length", "0").body(()).unwrap();
        assert_eq!(written(&said), "PUT / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(written(&Request::delete("/").body(()).unwrap()), "DELETE / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_head_is_read_with_all_it_has() {
        let (buffers, mut reply) = (super::super::fast::Buffers::default(), Buf::default());
        let mut text = &b"HTTP/1.1 299 Fine\r\nX: a\r\nempty:\r\nx: b\r\ncontent-length: 2\r\n\r\nok"[..];
        poll_fn(|cx| reply.poll_fill(&buffers, false, cx, &mut text)).await.unwrap();
        let (head, body, keeps) = read_head(&mut reply, false).unwrap().unwrap();
        let x: Vec<_> = head.headers().get_all("x").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((head.status().as_u16(), x), (299, vec!["a", "b"]));
        assert_eq!(head.headers()["empty"], "");
        assert_eq!(head.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
        assert!(matches!(body, http1::Body::Length(2)) && keeps && reply.filled() == b"ok");
    }
}
