//! What goes over an upgraded `exec` connection: frames of one byte kind, four bytes big-endian length, content.
//!
//! The client's end is [`ClientEnd`]: it encodes [`ToReplica`] and decodes [`FromReplica`]. The manager's end,
//! [`ManagerEnd`], does it the other way round.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The protocol's name in `Upgrade:`.
pub const PROTOCOL: &str = "sc-exec/1";

/// The largest content of one frame in bytes; [`pieces`] cuts longer data.
pub const CONTENT_MAX: usize = 64 * 1024;

const HEAD: usize = 5;

/// A frame from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToReplica {
    /// For the program's standard input. Kind 0.
    Input(Bytes),
    /// Standard input ends. Kind 1.
    End,
    /// The terminal has this many columns and rows now. Kind 2.
    Resize(u16, u16),
}

/// A frame from the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromReplica {
    /// The program's standard output (from a terminal: everything). Kind 1.
    Stdout(Bytes),
    /// The program's standard error. Kind 2.
    Stderr(Bytes),
    /// The program ended with this exit status; the last frame. Kind 3.
    Exit(i32),
    /// It could not be run, or what became of it is not known; the last frame. Kind 4.
    Error(String),
}

/// Data in pieces that fit into frames.
pub fn pieces(mut data: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = data.split_to(data.len().min(CONTENT_MAX));
        (!piece.is_empty()).then_some(piece)
    })
}

/// The client's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientEnd;

/// The manager's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct ManagerEnd;

impl Encoder<ToReplica> for ClientEnd {
    type Error = io::Error;

    fn encode(&mut self, frame: ToReplica, to: &mut BytesMut) -> io::Result<()> {
        match frame {
            ToReplica::Input(data) => put(to, 0, &data),
            ToReplica::End => put(to, 1, &[]),
            ToReplica::Resize(columns, rows) => {
                let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
                put(to, 2, &[a, b, c, d])
            }
        }
    }
}

impl Decoder for ClientEnd {
    type Item = FromReplica;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<FromReplica>> {
        let Some((kind, content)) = take(from)? else { return Ok(None) };
        Ok(Some(match (kind, &content[..]) {
            (1, _) => FromReplica::Stdout(content),
            (2, _) => FromReplica::Stderr(content),
            (3, &[a, b, c, d]) => FromReplica::Exit(i32::from_be_bytes([a, b, c, d])),
            (4, text) => FromReplica::Error(String::from_utf8_lossy(text).into_owned()),
            _ => return Err(malformed(kind)),
        }))
    }
}

impl Encoder<FromReplica> for ManagerEnd {
    type Error = io::Error;

    fn encode(&mut self, frame: FromReplica, to: &mut BytesMut) -> io::Result<()> {
        match frame {
            FromReplica::Stdout(data) => put(to, 1, &data),
            FromReplica::Stderr(data) => put(to, 2, &data),
            FromReplica::Exit(code) => put(to, 3, &code.to_be_bytes()),
            FromReplica::Error(text) => put(to, 4, &text.as_bytes()[..text.len().min(CONTENT_MAX)]),
        }
    }
}

impl Decoder for ManagerEnd {
    type Item = ToReplica;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<ToReplica>> {
        let Some((kind, content)) = take(from)? else { return Ok(None) };
        Ok(Some(match (kind, &content[..]) {
            (0, _) => ToReplica::Input(content),
            (1, []) => ToReplica::End,
            (2, &[a, b, c, d]) => ToReplica::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            _ => return Err(malformed(kind)),
        }))
    }
}

fn put(to: &mut BytesMut, kind: u8, content: &[u8]) -> io::Result<()> {
    if content.len() > CONTENT_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame is too long: cut it with pieces()"));
    }
    to.reserve(HEAD + content.len());
    to.put_u8(kind);
    to.put_u32(content.len() as u32);
    to.put_slice(content);
    Ok(())
}

/// The next frame's kind and content, if it is there whole.
fn take(from: &mut BytesMut) -> io::Result<Option<(u8, Bytes)>> {
    let &[kind, a, b, c, d, ..] = &from[..] else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > CONTENT_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    if from.len() < HEAD + length {
        from.reserve(HEAD + length - from.len());
        return Ok(None);
    }
    from.advance(HEAD);
    Ok(Some((kind, from.split_to(length).freeze())))
}

fn malformed(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {kind} is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through<F: Clone, T: PartialEq + std::fmt::Debug>(
        mut out: impl Encoder<F, Error = io::Error>,
        mut into: impl Decoder<Item = T, Error = io::Error>,
        frames: &[F],
        expected: &[T],
    ) {
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| out.encode(frame.clone(), &mut wire).unwrap());
        // Byte by byte, as the network may bring it.
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            got.extend(into.decode(&mut buffer).unwrap());
        }
        assert_eq!(got, expected);
        assert!(buffer.is_empty());
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let down = [ToReplica::Input("ls\n".into()), ToReplica::Resize(120, 40), ToReplica::End];
        through(ClientEnd, ManagerEnd, &down, &down);
        let up = [
            FromReplica::Stdout("a".into()),
            FromReplica::Stderr(Bytes::new()),
            FromReplica::Error("no such program".into()),
            FromReplica::Exit(-1),
        ];
        through(ManagerEnd, ClientEnd, &up, &up);
    }

    #[test]
    fn nonsense_and_too_long_frames_are_errors() {
        let decode = |bytes: &[u8]| ManagerEnd.decode(&mut BytesMut::from(bytes));
        assert!(decode(&[9, 0, 0, 0, 0]).is_err(), "unknown kind");
        assert!(decode(&[2, 0, 0, 0, 1, 7]).is_err(), "a resize of one byte");
        assert!(decode(&[0, 255, 255, 255, 255]).is_err(), "a length nobody needs");
        assert_eq!(decode(&[0, 0, 0, 0, 2, 7]).unwrap(), None, "incomplete");
        assert!(ClientEnd.encode(ToReplica::Input(vec![0; CONTENT_MAX + 1].into()), &mut BytesMut::new()).is_err());
    }

    #[test]
    fn long_data_is_cut() {
        let sizes = |n: usize| pieces(vec![0; n].into()).map(|p| p.len()).collect::<Vec<_>>();
        assert!(sizes(0).is_empty());
        assert_eq!(sizes(CONTENT_MAX), [CONTENT_MAX]);
        assert_eq!(sizes(CONTENT_MAX + 1), [CONTENT_MAX, 1]);
    }
}
