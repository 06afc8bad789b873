//! Decoder of `Transfer-Encoding: chunked`, fed in whatever pieces the socket delivers.

use super::response::Malformed;

/// Longest chunk-size line, extensions included, and longest trailer section.
const MAX_FRAMING_BYTES: usize = 16 * 1024;
/// Hexadecimal digits that fit the counter of remaining bytes.
const MAX_SIZE_DIGITS: u8 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerEnd,
}

/// Where in the chunked framing the body stands.
#[derive(Debug)]
pub(super) struct ChunkDecoder {
    state: State,
    framing_bytes: usize,
}

/// How far one call of [`ChunkDecoder::feed`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    More,
    /// The body is whole; `consumed` bytes of the input belonged to it.
    Done {
        consumed: usize,
    },
}

impl ChunkDecoder {
    pub(super) fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, framing_bytes: 0 }
    }

    /// Consumes `input`, handing the data inside the chunks to `sink`.
    pub(super) fn feed(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<Chunks, Malformed> {
        let mut at = 0;
        while at < input.len() {
            if let State::Data { remaining } = self.state {
                let available = (input.len() - at) as u64;
                let taken = remaining.min(available) as usize;
                sink(&input[at..at + taken]);
                at += taken;
                self.state = match remaining - taken as u64 {
                    0 => State::DataCr,
                    remaining => State::Data { remaining },
                };
                continue;
            }
            let done = self.step(input[at])?;
            at += 1;
            if done {
                return Ok(Chunks::Done { consumed: at });
            }
        }
        Ok(Chunks::More)
    }

    /// Takes one byte of framing; true when it was the last of the body.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        self.framing_bytes += 1;
        if self.framing_bytes > MAX_FRAMING_BYTES {
            return Err(Malformed::Chunk);
        }
        self.state = match (self.state, byte) {
            (State::Size { value, digits }, byte) => after_size_byte(value, digits, byte)?,
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, _) => State::Extension { size },
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeEnd { size }, b'\n') => {
                self.framing_bytes = 0;
                State::Data { remaining: size }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::TrailerEnd,
            (State::TrailerStart, _) => State::TrailerLine,
            (State::TrailerLine, b'\n') => State::TrailerStart,
            (State::TrailerLine, _) => State::TrailerLine,
            (State::TrailerEnd, b'\n') => return Ok(true),
            (State::SizeEnd { .. } | State::Data { .. } | State::DataCr | State::DataLf | State::TrailerEnd, _) => {
                return Err(Malformed::Chunk);
            }
        };
        Ok(false)
    }
}

fn after_size_byte(value: u64, digits: u8, byte: u8) -> Result<State, Malformed> {
    if let Some(digit) = (byte as char).to_digit(16) {
        if digits == MAX_SIZE_DIGITS {
            return Err(Malformed::Chunk);
        }
        return Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 });
    }
    match byte {
        _ if digits == 0 => Err(Malformed::Chunk),
        b'\r' => Ok(State::SizeEnd { size: value }),
        b';' | b' ' | b'\t' => Ok(State::Extension { size: value }),
        _ => Err(Malformed::Chunk),
    }
}
