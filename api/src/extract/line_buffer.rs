//! What has arrived of a body of lines. A client chooses how many pieces it comes in: no byte is looked at again for each of them.

use bytes::{Buf, Bytes, BytesMut};

#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    bytes: BytesMut,
    /// So many bytes at the front have no end of a line.
    n_searched: usize,
}

impl LineBuffer {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next line, without its end.
    pub(super) fn take_line(&mut self) -> Option<BytesMut> {
        let end = self.find(memchr::memchr)?;
        let line = self.bytes.split_to(end);
        self.bytes.advance(1);
        Some(line)
    }

    /// All whole lines.
    pub(super) fn take_lines(&mut self) -> Option<BytesMut> {
        let end = self.find(memchr::memrchr)?;
        Some(self.bytes.split_to(end + 1))
    }

    /// Everything, whether its last line has ended or not.
    pub(super) fn take_all(&mut self) -> BytesMut {
        self.n_searched = 0;
        self.bytes.split()
    }

    pub(super) fn copy(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes)
    }

    fn find(&mut self, search: impl FnOnce(u8, &[u8]) -> Option<usize>) -> Option<usize> {
        let n_known = std::mem::take(&mut self.n_searched);
        let end = search(b'\n', &self.bytes[n_known..]);
        if end.is_none() {
            self.n_searched = self.bytes.len();
        }
        end.map(|end| n_known + end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let text = b"a\n\nlonger\nrest";
        for n_bytes in 1..=text.len() {
            let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
            for piece in text.chunks(n_bytes) {
                buffer.push(piece);
                lines.extend(std::iter::from_fn(|| buffer.take_line()));
            }
            assert_eq!(lines, [&b"a"[..], b"", b"longer"]);
            assert_eq!(buffer.take_all(), &b"rest"[..]);
        }
    }

    #[test]
    fn blocks_are_whole_lines() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"a\nb\nc");
        assert_eq!(buffer.take_lines().unwrap(), &b"a\nb\n"[..]);
        assert!(buffer.take_lines().is_none());
        buffer.push(b"\nd");
        assert_eq!(buffer.take_lines().unwrap(), &b"c\n"[..]);
        assert_eq!((buffer.copy(), buffer.len(), buffer.is_empty()), (Bytes::from_static(b"d"), 1, false));
    }

    #[test]
    fn a_line_that_does_not_end_is_searched_once() {
        let mut buffer = LineBuffer::default();
        for n_pieces in 1..10 {
            buffer.push(b"ab");
            buffer.find(|_, bytes| {
                assert_eq!(bytes, b"ab", "piece {n_pieces}");
                None
            });
        }
    }
}
