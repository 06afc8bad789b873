//! Where the head of a request ends, or its body in chunks, in what was read. The HTTP server looks at all that it gets: of requests that come many at
//! once it would make a queue of requests, each a hundred times as large as what it was read from, and it closes the connection of one that is answered
//! while the body of the next comes. Nothing but how much it gets at once depends on what is found here: it judges what is well formed.

/// Looks for the end in what comes in pieces.
pub(super) trait End {
    fn is_found(&self) -> bool;

    /// How many of `bytes` are in front of the end. All are when it is not among them, or was found before.
    fn n_before(&mut self, bytes: &[u8]) -> usize;
}

/// The empty line behind a head.
#[derive(Debug, Default)]
pub(super) struct HeadEnd {
    line: Line,
    /// A line that is not empty was there: the server skips those in front of it.
    has_begun: bool,
    is_found: bool,
    n_bytes: usize,
}

/// What is there of a line.
#[derive(Debug, Default, Clone, Copy)]
enum Line {
    #[default]
    Nothing,
    CarriageReturn,
    Text,
}

impl HeadEnd {
    /// How much of it there is.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    fn of_trailers() -> Self {
        Self { has_begun: true, ..Self::default() }
    }

    fn look_at(&mut self, piece: &[u8]) {
        let is_empty = match self.line {
            Line::Nothing => matches!(piece, b"\n" | b"\r\n"),
            Line::CarriageReturn => piece == b"\n",
            Line::Text => false,
        };
        self.line = match (self.line, piece) {
            (_, [.., b'\n']) => Line::Nothing,
            (Line::Nothing, [b'\r']) => Line::CarriageReturn,
            _ => Line::Text,
        };
        let is_whole = matches!(self.line, Line::Nothing);
        self.is_found = is_empty && self.has_begun;
        self.has_begun |= is_whole && !is_empty;
    }
}

impl End for HeadEnd {
    fn is_found(&self) -> bool {
        self.is_found
    }

    fn n_before(&mut self, bytes: &[u8]) -> usize {
        if self.is_found {
            return bytes.len();
        }
        let mut n_before = 0;
        let mut pieces = bytes.split_inclusive(|byte| *byte == b'\n');
        while !self.is_found
            && let Some(piece) = pieces.next()
        {
            n_before += piece.len();
            self.look_at(piece);
        }
        self.n_bytes += n_before;
        n_before
    }
}

/// The end of the last chunk, and of the trailers behind it.
#[derive(Debug)]
pub(super) enum ChunksEnd {
    /// So many bytes will be in the chunk, by the digits so far.
    Size(u64),
    /// The rest of the line.
    Extension(u64),
    /// So many are left of the chunk, with the end of its line.
    Chunk(u64),
    Trailers(HeadEnd),
}

impl Default for ChunksEnd {
    fn default() -> Self {
        Self::Size(0)
    }
}

impl End for ChunksEnd {
    fn is_found(&self) -> bool {
        matches!(self, Self::Trailers(end) if end.is_found)
    }

    fn n_before(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let [first, behind @ ..] = rest {
            *self = match self {
                Self::Trailers(end) => return bytes.len() - rest.len() + end.n_before(rest),
                Self::Chunk(n_left) => {
                    let n_there = (rest.len() as u64).min(*n_left);
                    rest = &rest[n_there as usize..];
                    match *n_left - n_there {
                        0 => Self::Size(0),
                        n_left => Self::Chunk(n_left),
                    }
                }
                Self::Size(0) | Self::Extension(0) if *first == b'\n' => {
                    rest = behind;
                    Self::Trailers(HeadEnd::of_trailers())
                }
                Self::Size(size) | Self::Extension(size) if *first == b'\n' => {
                    rest = behind;
                    Self::Chunk(size.saturating_add(2))
                }
                Self::Size(size) => {
                    rest = behind;
                    match char::from(*first).to_digit(16) {
                        Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(u64::from(digit))),
                        None => Self::Extension(*size),
                    }
                }
                Self::Extension(size) => {
                    rest = behind;
                    Self::Extension(*size)
                }
            };
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{ChunksEnd, End, HeadEnd};
    use rstest::rstest;

    /// How many bytes of `all` are in front of the end, when so many come at once.
    fn n_before(mut end: impl End, all: &[u8], n_at_once: usize) -> Option<usize> {
        let mut n_before = 0;
        for piece in all.chunks(n_at_once) {
            n_before += end.n_before(piece);
            if end.is_found() {
                assert_eq!(end.n_before(all), all.len(), "what is behind is for another to look at");
                return Some(n_before);
            }
        }
        None
    }

    #[rstest]
    #[case::usual(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")]
    #[case::without_carriage_returns(b"GET / HTTP/1.1\nHost: a\n\n")]
    #[case::behind_empty_lines(b"\r\n\r\n\nGET / HTTP/1.1\r\n\r\n")]
    #[case::with_a_carriage_return_in_a_line(b"GET / HTTP/1.1\r\nX: \r a\r\n\n")]
    #[case::short(b"a\r\n\r\n")]
    fn a_head_ends_with_its_first_empty_line_however_it_comes(#[case] head: &[u8]) {
        let both = [head, head].concat();
        for n_at_once in 1..=both.len() {
            assert_eq!(n_before(HeadEnd::default(), &both, n_at_once), Some(head.len()), "{n_at_once} at once");
        }
        assert_eq!(n_before(HeadEnd::default(), &head[..head.len() - 1], 3), None);
    }

    #[rstest]
    #[case::usual(b"5\r\nhello\r\n1b\r\n\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n")]
    #[case::empty(b"0\r\n\r\n")]
    #[case::extensions(b"5;a=b;c\r\nhello\r\n000 ;d\r\n\r\n")]
    #[case::trailers(b"A\r\n0123456789\r\n0\r\nA: b\r\nC: 0\r\n\r\n")]
    fn chunks_end_behind_the_last_however_they_come(#[case] body: &[u8]) {
        let both = [body, b"GET / HTTP/1.1\r\n\r\n"].concat();
        for n_at_once in 1..=both.len() {
            assert_eq!(n_before(ChunksEnd::default(), &both, n_at_once), Some(body.len()), "{n_at_once} at once");
        }
        assert_eq!(n_before(ChunksEnd::default(), &body[..body.len() - 1], 3), None);
    }

    #[rstest]
    #[case::of_no_size(b"\r\nhello")]
    #[case::larger_than_can_be(b"ffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n")]
    #[case::not_chunks(b"hello")]
    fn what_is_malformed_has_no_end(#[case] body: &[u8]) {
        assert_eq!(n_before(ChunksEnd::default(), body, 4), None);
    }
}
