//! The coders: bytes in, fewer bytes out. What a coder holds is bounded, whatever passes through it: well below a MiB.

use std::io::{self, Write};

use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use flate2::{Compression, write::GzEncoder};
use sc_core::spec::Coding;
use zstd::{stream::write::Encoder, zstd_safe::CParameter};

use super::Plan;

/// How far back a coder looks, as a power of two: 128 KiB. More shrinks pages hardly further, and takes memory.
const WINDOW: u32 = 17;
/// The least that all coders can do.
const WINDOW_MIN: u32 = 10;
/// Efforts that a busy thread can bear: about as small as the coders' own defaults, at less time.
const BROTLI: i32 = 4;
const GZIP: u32 = 5;
const ZSTD: i32 = 3;

/// Compresses one body.
pub struct Coder(Kind);

enum Kind {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Encoder<'static, Vec<u8>>),
}

impl Coder {
    /// A coder for one body.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn new(plan: Plan) -> io::Result<Self> {
        let known = plan.length.map(|bytes| 64 - bytes.leading_zeros());
        let window = known.unwrap_or(WINDOW).clamp(WINDOW_MIN, WINDOW);
        Ok(Self(match plan.coding {
            Coding::Gzip => Kind::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP))),
            Coding::Br => {
                let params = BrotliEncoderParams {
                    quality: BROTLI,
                    lgwin: window as i32,
                    size_hint: plan.length.map_or(0, |bytes| bytes.min(1 << 30) as usize),
                    ..BrotliEncoderParams::default()
                };
                Kind::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), 4 * 1024, &params)))
            }
            Coding::Zstd => {
                let mut encoder = Encoder::new(Vec::new(), ZSTD)?;
                encoder.set_parameter(CParameter::WindowLog(window))?;
                encoder.set_parameter(CParameter::HashLog(window.min(16)))?;
                encoder.set_parameter(CParameter::ChainLog(window.min(15)))?;
                Kind::Zstd(encoder)
            }
        }))
    }

    /// Takes bytes in.
    ///
    /// # Errors
    /// When the coder is at fault; the body must then break off.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Gzip(gzip) => gzip.write_all(bytes),
            Kind::Brotli(brotli) => brotli.write_all(bytes),
            Kind::Zstd(zstd) => zstd.write_all(bytes),
        }
    }

    /// Gives out all that was taken in, so that its receiver can read it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Gzip(gzip) => gzip.flush(),
            Kind::Brotli(brotli) => brotli.flush(),
            Kind::Zstd(zstd) => zstd.flush(),
        }
    }

    /// What has come out.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.0 {
            Kind::Gzip(gzip) => gzip.get_mut(),
            Kind::Brotli(brotli) => brotli.get_mut(),
            Kind::Zstd(zstd) => zstd.get_mut(),
        })
    }

    /// How much has come out.
    pub fn ready(&self) -> usize {
        match &self.0 {
            Kind::Gzip(gzip) => gzip.get_ref().len(),
            Kind::Brotli(brotli) => brotli.get_ref().len(),
            Kind::Zstd(zstd) => zstd.get_ref().len(),
        }
    }

    /// The rest, with the end of the body.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Kind::Gzip(gzip) => gzip.finish(),
            Kind::Brotli(brotli) => Ok(brotli.into_inner()),
            Kind::Zstd(zstd) => zstd.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)?,
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut plain)?,
        };
        Ok(plain)
    }

    fn coder(coding: Coding, length: Option<u64>) -> Coder {
        Coder::new(Plan { coding, length }).unwrap()
    }

    #[test]
    fn what_repeats_shrinks_whatever_its_length() {
        for coding in Coding::ALL {
            for n in [1, 100, 20_000, 400_000] {
                let text: Vec<u8> =
                    (0..n).flat_map(|line| format!("line {} of many\n", line % 17).into_bytes()).collect();
                for length in [None, Some(text.len() as u64)] {
                    let mut coder = coder(coding, length);
                    coder.write(&text).unwrap();
                    let coded = coder.finish().unwrap();
                    assert!(n < 100 || coded.len() * 5 < text.len(), "{coding:?} {n}: {} bytes", coded.len());
                    assert!(decoded(coding, &coded).unwrap() == text, "{coding:?} {n}");
                }
            }
        }
    }

    #[test]
    fn a_body_that_is_not_ended_cannot_be_taken_for_whole() {
        for coding in Coding::ALL {
            let mut coder = coder(coding, None);
            coder.write(b"the first half").unwrap();
            coder.flush().unwrap();
            assert!(decoded(coding, &coder.take()).is_err(), "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn all_that_was_written_can_be_read_after_each_flush(
            pieces in proptest::collection::vec((proptest::collection::vec(0u8..8, 0..3000), any::<bool>()), 0..8),
            which in 0usize..3,
        ) {
            let coding = Coding::ALL[which];
            let (mut coder, mut plain, mut coded) = (coder(coding, None), Vec::new(), Vec::new());
            for (piece, flush) in pieces {
                coder.write(&piece).unwrap();
                plain.extend(piece);
                if flush {
                    coder.flush().unwrap();
                    coded.extend(coder.take());
                    prop_assert_eq!(&readable(coding, &coded), &plain);
                }
            }
            coded.extend(coder.finish().unwrap());
            prop_assert!(decoded(coding, &coded).unwrap() == plain);
        }
    }

    /// What a client can read of a body whose end has not come.
    fn readable(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).and_then(|mut zstd| zstd.read_to_end(&mut plain)),
        };
        plain
    }
}
