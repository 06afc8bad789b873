//! What Redis says on a connection that only listens, read from the bytes as they come. Pure, and without a copy: a message is a
//! slice of what was read.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Longest element of an answer: above the largest publication, and below what would be a stream of something else.
const ELEMENT_BYTES_MAX: usize = 64 << 20;
/// `message`, channel, payload; nothing that we ask for is longer.
const ELEMENTS_MAX: usize = 3;
/// Longest line between elements: a number, or an error's text.
const LINE_BYTES_MAX: usize = 4_096;

/// The bytes are none that a listening connection gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Message),
    Subscribed(Bytes),
    /// Asked for, or because the channel is another server's now.
    Unsubscribed(Bytes),
    /// An answer that says nothing of a channel.
    Other,
    Refused(String),
}

/// One message of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    frame: Bytes,
    channel: Range<usize>,
    payload: Range<usize>,
}

impl Message {
    pub(super) fn channel(&self) -> &[u8] {
        &self.frame[self.channel.clone()]
    }

    pub(super) fn payload(&self) -> Bytes {
        self.frame.slice(self.payload.clone())
    }
}

/// Takes the first frame off `read`; `None` when it is not there whole.
pub(super) fn next(read: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
    let Some(&kind) = read.first() else { return Ok(None) };
    let Some(line) = line(read, 0)? else { return Ok(None) };
    match kind {
        b'*' => array(read, line),
        b'-' => {
            let text = String::from_utf8_lossy(&read[1..line - 2]).into_owned();
            drop(read.split_to(line));
            Ok(Some(Frame::Refused(text)))
        }
        b'+' | b':' => {
            drop(read.split_to(line));
            Ok(Some(Frame::Other))
        }
        _ => Err(Malformed),
    }
}

/// The elements of an array: texts and numbers, where a number's range is that of its digits.
fn array(read: &mut BytesMut, head: usize) -> Result<Option<Frame>, Malformed> {
    let n = number(&read[1..head - 2])?;
    if !(1..=ELEMENTS_MAX).contains(&n) {
        return Err(Malformed);
    }
    let (mut at, mut elements) = (head, [const { 0..0 }; ELEMENTS_MAX]);
    for element in elements.iter_mut().take(n) {
        let Some(end) = line(read, at)? else { return Ok(None) };
        match read[at] {
            b':' => {
                *element = at + 1..end - 2;
                at = end;
            }
            b'$' if &read[at + 1..end - 2] == b"-1" => at = end,
            b'$' => {
                let length = number(&read[at + 1..end - 2])?;
                if length > ELEMENT_BYTES_MAX {
                    return Err(Malformed);
                }
                *element = end..end + length;
                at = end + length + 2;
                if read.len() < at {
                    return Ok(None);
                }
                if &read[at - 2..at] != b"\r\n" {
                    return Err(Malformed);
                }
            }
            _ => return Err(Malformed),
        }
    }
    let frame = read.split_to(at).freeze();
    let [kind, channel, payload] = elements;
    Ok(Some(match &frame[kind] {
        b"message" | b"smessage" if n == 3 => Frame::Message(Message { frame, channel, payload }),
        b"subscribe" | b"ssubscribe" => Frame::Subscribed(frame.slice(channel)),
        b"unsubscribe" | b"sunsubscribe" => Frame::Unsubscribed(frame.slice(channel)),
        _ => Frame::Other,
    }))
}

/// Where the line that starts at `at` ends, its line end included.
fn line(read: &[u8], at: usize) -> Result<Option<usize>, Malformed> {
    let rest = &read[at..];
    match memchr::memchr(b'\n', &rest[..rest.len().min(LINE_BYTES_MAX)]) {
        Some(end) if end >= 2 && rest[end - 1] == b'\r' => Ok(Some(at + end + 1)),
        Some(_) => Err(Malformed),
        None if rest.len() >= LINE_BYTES_MAX => Err(Malformed),
        None => Ok(None),
    }
}

fn number(digits: &[u8]) -> Result<usize, Malformed> {
    if digits.is_empty() || digits.len() > 9 {
        return Err(Malformed);
    }
    digits.iter().try_fold(0usize, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + usize::from(digit - b'0')),
        _ => Err(Malformed),
    })
}

/// `verb` with `names`, as Redis reads it.
pub(super) fn command<'a>(verb: &'a str, names: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", names.len() + 1).as_bytes());
    for element in std::iter::once(verb.as_bytes()).chain(names) {
        out.extend_from_slice(format!("${}\r\n", element.len()).as_bytes());
        out.extend_from_slice(element);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
        let mut read = BytesMut::from(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = next(&mut read)? {
            frames.push(frame);
        }
        assert!(read.is_empty(), "a whole answer leaves nothing");
        Ok(frames)
    }

    #[test]
    fn answers_are_read() {
        let frames = all(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n-ERR no\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        assert_eq!(
            frames.unwrap(),
            [
                Frame::Subscribed(Bytes::from_static(b"a")),
                Frame::Other,
                Frame::Unsubscribed(Bytes::new()),
                Frame::Refused("ERR no".to_owned()),
                Frame::Other
            ]
        );
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for wrong in [
            &b"x\r\n"[..],
            b"*3\n",
            b"*9\r\n",
            b"*1\r\n$99999999999\r\n",
            b"*1\r\n$999999999\r\n",
            b"*1\r\n$1\r\nabc",
            b"\r\n",
            b"*-1\r\n",
            b"**\r\n",
        ] {
            assert_eq!(next(&mut BytesMut::from(wrong)), Err(Malformed), "{}", String::from_utf8_lossy(wrong));
        }
        assert_eq!(next(&mut BytesMut::from(&[b'+'; LINE_BYTES_MAX][..])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..200)), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            for (channel, payload) in &messages {
                command("message", [&channel[..], &payload[..]].into_iter(), &mut bytes);
            }
            let (first, second) = bytes.split_at(cut.index(bytes.len()));
            let (mut read, mut out) = (BytesMut::new(), Vec::new());
            for part in [first, second] {
                read.extend_from_slice(part);
                while let Some(frame) = next(&mut read).unwrap() {
                    let Frame::Message(message) = frame else { panic!("{frame:?}") };
                    out.push((message.channel().to_vec(), message.payload().to_vec()));
                }
            }
            prop_assert_eq!(out, messages);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(&b"*$:+-0123456789\r\na"[..]), 0..60)) {
            let mut read = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next(&mut read) {}
        }
    }
}
