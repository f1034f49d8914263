//! Stands between a client and hyper, which takes requests that have two readings and does not tell: it lets a `Content-Length`
//! beside chunks fall, takes it twice, and takes bare line feeds for line ends.

use httparse::{Error, Header, Status};

use super::{
    Bad, Body, Framing,
    field::{Field, field, length},
    request::has_bare_line_feed,
};

/// Follows the requests of one connection, and stops before one that hyper must not see.
#[derive(Debug)]
pub struct Guard {
    state: State,
    /// What has come of a head that is not whole.
    head: Vec<u8>,
    /// The longest head and the most fields that hyper may take.
    most: (usize, usize),
}

#[derive(Debug)]
enum State {
    Head,
    Body(Body),
    /// Nothing is followed any more: another protocol, or what hyper refuses for its size.
    Free,
    /// A request was bad.
    Shut,
}

impl Guard {
    /// For a connection at its start. `head_bytes` and `head_fields`: what hyper is told to take.
    pub fn new(head_bytes: usize, head_fields: usize) -> Self {
        // hyper's own bound is not exact.
        Self { state: State::Head, head: Vec::new(), most: (head_bytes.saturating_mul(2).max(16 * 1024), head_fields) }
    }

    /// How many of the next bytes need not be looked at; they are told by [`Self::skip`] then.
    pub fn indifferent(&self) -> u64 {
        match &self.state {
            State::Free => u64::MAX,
            State::Body(body) => body.left(),
            State::Head | State::Shut => 0,
        }
    }

    /// So many bytes, at most [`Self::indifferent`], have passed.
    pub fn skip(&mut self, count: usize) {
        let State::Body(Body::Length(left)) = &mut self.state else { return };
        *left = left.saturating_sub(count as u64);
        if *left == 0 {
            self.state = State::Head;
        }
    }

    /// A request was bad: nothing more may pass.
    pub fn is_shut(&self) -> bool {
        matches!(self.state, State::Shut)
    }

    /// Looks at the next bytes. Gives how many of them may pass: all, unless a request among them is bad.
    pub fn watch(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        while at < input.len() {
            let used = match &mut self.state {
                State::Free => return input.len(),
                State::Shut => return at,
                State::Head => self.head(&input[at..]),
                State::Body(body) => body.next(&input[at..]).map(|step| step.used),
            };
            match used {
                Ok(used) => at += used,
                Err(Bad(_)) => self.state = State::Shut,
            }
            if matches!(&self.state, State::Body(body) if body.is_done()) {
                self.state = State::Head;
            }
        }
        at
    }

    /// Takes bytes of a head; gives how many belong to it.
    fn head(&mut self, input: &[u8]) -> Result<usize, Bad> {
        let before = self.head.len();
        self.head.extend_from_slice(input);
        let read = if input.contains(&b'\n') { read(&self.head, self.most.1) } else { Ok(Read::Partial) };
        let used = match read? {
            Read::Partial if self.head.len() <= self.most.0 => return Ok(input.len()),
            Read::Partial | Read::Foreign => {
                self.state = State::Free;
                input.len()
            }
            Read::Whole(len, framing) => {
                self.state = State::Body(Body::new(framing));
                len - before
            }
        };
        self.head = Vec::new();
        Ok(used)
    }
}

enum Read {
    Partial,
    Foreign,
    Whole(usize, Framing),
}

fn read(head: &[u8], fields: usize) -> Result<Read, Bad> {
    let mut fields = vec![httparse::EMPTY_HEADER; fields];
    let mut request = httparse::Request::new(&mut fields);
    let len = match request.parse(head) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(Read::Partial),
        Err(Error::TooManyHeaders) => return Ok(Read::Foreign),
        Err(_) if head.starts_with(b"PRI * HTTP/2.0\r\n") => return Ok(Read::Foreign),
        Err(_) => return Err(Bad("head")),
    };
    if has_bare_line_feed(&head[..len]) {
        return Err(Bad("bare line feed"));
    }
    // A fragment is the client's own business; whoever sends it wants it to be overlooked by someone.
    if request.path.is_some_and(|target| target.contains(['#', '\\'])) {
        return Err(Bad("target"));
    }
    framing(request.headers, request.version == Some(1)).map(|framing| Read::Whole(len, framing))
}

/// Where the body ends, if there is one answer only.
fn framing(fields: &[Header<'_>], is_1_1: bool) -> Result<Framing, Bad> {
    let mut found = Framing::None;
    for header in fields {
        let this = match field(header.name.as_bytes()) {
            Field::ContentLength => Framing::Length(length(header.value).ok_or(Bad("content-length"))?),
            Field::TransferEncoding if is_1_1 && header.value.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            Field::TransferEncoding => return Err(Bad("transfer-encoding")),
            _ => continue,
        };
        if found != Framing::None {
            return Err(Bad("two framings"));
        }
        found = this;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEXT: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn passes(bytes: &[u8], split: usize) -> (usize, bool) {
        let (mut guard, mut passed) = (Guard::new(1_000, 10), 0);
        for part in bytes.chunks(split.max(1)) {
            let free = guard.indifferent();
            if free >= part.len() as u64 {
                guard.skip(part.len());
                passed += part.len();
                continue;
            }
            let used = guard.watch(part);
            passed += used;
            if used < part.len() {
                assert!(guard.is_shut());
                break;
            }
        }
        (passed, guard.is_shut())
    }

    #[test]
    fn what_has_one_reading_passes_whole() {
        for text in [
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na\0\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x\r\nabc\r\n0\r\nt: 1\r\n\r\n",
            "POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        ] {
            for split in [1, 2, 7, 1_000] {
                let twice = format!("{text}{NEXT}{text}");
                assert_eq!(passes(twice.as_bytes(), split), (twice.len(), false), "{text:?} by {split}");
            }
        }
        let other = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{}", "\0".repeat(5_000));
        assert_eq!(passes(other.as_bytes(), 100), (other.len(), false));
    }

    #[test]
    fn nothing_of_what_has_two_passes_when_it_comes_at_once() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: xchunked, chunked",
            "x: y\nz: a",
            "x : y",
        ] {
            let bad = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
            assert_eq!(passes(bad.as_bytes(), 1_000), (0, true), "{fields:?}");
            let second = format!("{NEXT}{bad}");
            assert_eq!(passes(second.as_bytes(), 1_000), (NEXT.len(), true), "{fields:?}");
            let (passed, shut) = passes(second.as_bytes(), 1);
            assert!(shut && passed < second.len() - 5, "{fields:?}: the head's last byte is held back");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(passes(old.as_bytes(), 1_000), (0, true));
        let chunk = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na";
        assert!(passes(chunk.as_bytes(), 1_000).1);
    }

    proptest! {
        #[test]
        fn splitting_changes_no_verdict(parts in prop::collection::vec(prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "Host: a\r\n", "Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n", "\r\n", "\n", "ab", "1\r\na\r\n",
            "0\r\n\r\n", "x: y\r\n", "\0", " ",
        ]), 0..14), split in 1usize..30) {
            let bytes = (parts.concat() + "\n").into_bytes(); // a verdict may wait for the end of the line
            prop_assert_eq!(passes(&bytes, split).1, passes(&bytes, usize::MAX).1);
        }
    }
}
