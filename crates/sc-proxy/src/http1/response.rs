//! A response's head: what it says, and where its body ends.

use httparse::{Header, Status};

use super::{
    Bad, Fields, Framing,
    field::{Connection, Field, field, length},
};

/// What came of the bytes that were read.
#[derive(Debug)]
pub enum Answer<'h, 'b> {
    /// More must be read.
    Partial,
    /// It has more than [`FIELDS`](super::FIELDS) fields.
    ManyFields,
    /// A head.
    Head(Response<'h, 'b>),
}

/// The head of a response.
#[derive(Debug)]
pub struct Response<'h, 'b> {
    /// Its status.
    pub status: u16,
    /// Its reason phrase; it may be empty.
    pub reason: &'b str,
    /// Its fields.
    pub fields: &'h [Header<'b>],
    /// All of it, as it came.
    pub(super) head: &'b [u8],
    /// Its length with the empty line.
    pub len: usize,
    /// How its body is delimited.
    pub body: Framing,
    /// Its connection can serve another request once the body has come.
    pub keeps: bool,
    pub(super) has_date: bool,
    pub(super) names: usize,
}

/// Reads the head at the start of `bytes`; `to_head`: it answers a HEAD.
///
/// # Errors
/// When it is no response, or one that could be read in two ways.
pub fn answer<'h, 'b>(bytes: &'b [u8], to_head: bool, fields: &'h mut Fields<'b>) -> Result<Answer<'h, 'b>, Bad> {
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut parsed, bytes, fields) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(Answer::Partial),
        Err(httparse::Error::TooManyHeaders) => return Ok(Answer::ManyFields),
        Err(_) => return Err(Bad("response head")),
    };
    let httparse::Response { version: Some(version), code: Some(status @ 100..), reason, headers } = parsed else {
        return Err(Bad("response head"));
    };
    let mut seen = Seen::default();
    headers.iter().try_for_each(|header| seen.field(header))?;
    // Whoever writes chunks in HTTP/1.0 does not know what they are (RFC 9112 section 6.1).
    if seen.coded && version == 0 {
        return Err(Bad("Transfer-Encoding in HTTP/1.0"));
    }
    if seen.connection.is_crowded() {
        return Err(Bad("Connection"));
    }
    let (body, exact) = seen.framing(status, to_head)?;
    Ok(Answer::Head(Response {
        status,
        reason: reason.unwrap_or_default(),
        fields: headers,
        head: &bytes[..len],
        len,
        body,
        keeps: exact && version == 1 && !seen.connection.close,
        has_date: seen.has_date,
        names: seen.connection.names,
    }))
}

#[derive(Default)]
struct Seen {
    length: Option<u64>,
    coded: bool,
    connection: Connection,
    has_date: bool,
}

impl Seen {
    fn field(&mut self, header: &Header<'_>) -> Result<(), Bad> {
        match field(header.name.as_bytes()) {
            Field::ContentLength => {
                let value = length(header.value).ok_or(Bad("Content-Length"))?;
                if self.length.is_some_and(|before| before != value) {
                    return Err(Bad("two Content-Lengths"));
                }
                self.length = Some(value);
            }
            Field::TransferEncoding => {
                if self.coded || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Bad("Transfer-Encoding"));
                }
                self.coded = true;
            }
            Field::Connection => self.connection.read(header.value),
            Field::Date => self.has_date = true,
            _ => {}
        }
        Ok(())
    }

    /// The framing, and whether the connection can be trusted to be at the next answer after it.
    fn framing(&self, status: u16, to_head: bool) -> Result<(Framing, bool), Bad> {
        Ok(match (self.length, self.coded) {
            _ if to_head || status < 200 || matches!(status, 204 | 304) => (Framing::None, true),
            (length, true) => (Framing::Chunked, length.is_none()),
            (Some(length), false) => (Framing::Length(length), true),
            (None, false) => (Framing::Close, false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::fields;

    fn read(text: &str, to_head: bool) -> String {
        match answer(text.as_bytes(), to_head, &mut fields()) {
            Ok(Answer::Partial) => "partial".to_owned(),
            Ok(Answer::ManyFields) => "many fields".to_owned(),
            Ok(Answer::Head(r)) => format!("{} {:?}{}", r.status, r.body, if r.keeps { " keeps" } else { "" }),
            Err(_) => "bad".to_owned(),
        }
    }

    #[test]
    fn where_bodies_end() {
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "200 Length(3) keeps"),
            ("HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n", "200 Chunked keeps"),
            ("HTTP/1.1 200\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", "200 Chunked"),
            ("HTTP/1.1 200 OK\r\n\r\n", "200 Close"),
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", "200 Length(3)"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", "200 Length(3)"),
            ("HTTP/1.1 204 No\r\ncontent-length: 3\r\n\r\n", "204 None keeps"),
            ("HTTP/1.1 304 No\r\ncontent-length: 3\r\n\r\n", "304 None keeps"),
            ("HTTP/1.1 100 Continue\r\n\r\n", "100 None keeps"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n", "partial"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", "bad"),
            ("HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n", "bad"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "bad"),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "bad"),
            ("HTTP/1.0 304 OK\r\ntransfer-encoding: chunked\r\n\r\n", "bad"),
            ("HTTP/1.1 200 OK\r\nconnection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\r\n\r\n", "bad"),
            ("HTTP/1.1 099 OK\r\n\r\n", "bad"),
            ("SSH-2.0-x\r\n", "bad"),
        ] {
            assert_eq!(read(text, false), want, "{text:?}");
        }
        assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", true), "200 None keeps");
    }
}
