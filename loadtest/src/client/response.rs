//! Incremental parser of one HTTP/1.1 response: it may be fed the bytes in any pieces, and says
//! when the response is whole. It keeps no body.

use super::chunked::{ChunkDecoder, Chunks};

/// Longest response head that is accepted.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most header lines that are accepted.
const MAX_HEADERS: usize = 96;

/// A response that arrived whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// False when the server will close the connection, or has.
    pub(crate) keep_alive: bool,
}

/// Why the bytes are no HTTP/1.1 response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the response head is not HTTP/1.1")]
    Head,
    #[error("the response head is longer than {MAX_HEAD_BYTES} bytes")]
    HeadTooLong,
    #[error("Content-Length is not a number")]
    ContentLength,
    #[error("the chunked framing is broken")]
    Chunk,
    #[error("bytes follow the end of the response")]
    Surplus,
    #[error("the connection ended within the response")]
    Truncated,
}

/// Whether the response answers a HEAD request: then it has a Content-Length but no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRule {
    Expected,
    HeadOnly,
}

#[derive(Debug)]
enum State {
    Head,
    Sized { head: Response, remaining: u64 },
    Chunked { head: Response, chunks: ChunkDecoder },
    UntilClose { head: Response },
}

/// How the body of a response is delimited.
enum Framing {
    None,
    Sized(u64),
    Chunked,
    UntilClose,
}

struct Head {
    response: Response,
    framing: Framing,
    len: usize,
}

#[derive(Debug)]
pub(crate) struct ResponseParser {
    rule: BodyRule,
    state: State,
    /// The bytes of a head that came in pieces; empty when it comes in one.
    pending: Vec<u8>,
}

impl ResponseParser {
    pub(crate) fn new(rule: BodyRule) -> Self {
        Self { rule, state: State::Head, pending: Vec::new() }
    }

    /// Takes the next bytes from the socket, hands body bytes to `sink`, and returns the response
    /// once it is whole; the parser is then ready for the next one.
    pub(crate) fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<Option<Response>, Malformed> {
        while let State::Head = self.state {
            let Some(head) = self.read_head(&mut input)? else {
                return Ok(None);
            };
            if (100..200).contains(&head.response.status) {
                continue;
            }
            self.state = match head.framing {
                Framing::None | Framing::Sized(0) => return self.finish(head.response, input),
                Framing::Sized(remaining) => State::Sized { head: head.response, remaining },
                Framing::Chunked => State::Chunked { head: head.response, chunks: ChunkDecoder::new() },
                Framing::UntilClose => State::UntilClose { head: head.response },
            };
        }
        self.read_body(input, sink)
    }

    /// Says what the end of the connection means for the response being read.
    pub(crate) fn end_of_stream(&mut self) -> Result<Response, Malformed> {
        match self.state {
            State::UntilClose { head } => {
                self.state = State::Head;
                Ok(head)
            }
            State::Head | State::Sized { .. } | State::Chunked { .. } => Err(Malformed::Truncated),
        }
    }

    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Malformed> {
        if self.pending.is_empty() {
            if let Some(head) = parse_head(input, self.rule)? {
                *input = &input[head.len..];
                return Ok(Some(head));
            }
            self.pending.extend_from_slice(input);
        } else {
            let n_before = self.pending.len();
            self.pending.extend_from_slice(input);
            if let Some(head) = parse_head(&self.pending, self.rule)? {
                *input = &input[head.len - n_before..];
                self.pending.clear();
                return Ok(Some(head));
            }
        }
        if self.pending.len() > MAX_HEAD_BYTES {
            return Err(Malformed::HeadTooLong);
        }
        Ok(None)
    }

    fn read_body(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<Option<Response>, Malformed> {
        match &mut self.state {
            State::Head => Ok(None),
            State::UntilClose { .. } => {
                sink(input);
                Ok(None)
            }
            State::Sized { head, remaining } => {
                let taken = (*remaining).min(input.len() as u64) as usize;
                sink(&input[..taken]);
                *remaining -= taken as u64;
                if *remaining > 0 {
                    return Ok(None);
                }
                let head = *head;
                self.finish(head, &input[taken..])
            }
            State::Chunked { head, chunks } => {
                let head = *head;
                match chunks.feed(input, sink)? {
                    Chunks::More => Ok(None),
                    Chunks::Done { consumed } => self.finish(head, &input[consumed..]),
                }
            }
        }
    }

    /// One request is in flight at a time, so whatever follows the response answers nothing.
    fn finish(&mut self, response: Response, rest: &[u8]) -> Result<Option<Response>, Malformed> {
        self.state = State::Head;
        if rest.is_empty() { Ok(Some(response)) } else { Err(Malformed::Surplus) }
    }
}

fn parse_head(input: &[u8], rule: BodyRule) -> Result<Option<Head>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let len = match parsed.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed::Head),
    };
    let (Some(status), Some(minor_version)) = (parsed.code, parsed.version) else {
        return Err(Malformed::Head);
    };
    let mut keep_alive = minor_version == 1;
    let mut content_length = None;
    let mut chunked = false;
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| Malformed::ContentLength)?;
            let length = text.trim().parse::<u64>();
            content_length = Some(length.map_err(|_| Malformed::ContentLength)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = has_token(header.value, b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive = match minor_version {
                1 => !has_token(header.value, b"close"),
                _ => has_token(header.value, b"keep-alive"),
            };
        }
    }
    let bodiless = rule == BodyRule::HeadOnly || status < 200 || matches!(status, 204 | 304);
    let framing = match content_length {
        _ if bodiless => Framing::None,
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Sized(length),
        None => Framing::UntilClose,
    };
    let keep_alive = keep_alive && !matches!(framing, Framing::UntilClose);
    Ok(Some(Head { response: Response { status, keep_alive }, framing, len }))
}

/// True when the comma-separated header value names `token`.
fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests;
