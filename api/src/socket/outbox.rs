//! What waits to be sent to one socket: whole frames, bounded in number and in bytes.

use bytes::{Buf, Bytes};
use std::{collections::VecDeque, io::IoSlice};

/// Frames that an idle outbox keeps room for.
const IDLE_FRAMES: usize = 4;

#[derive(Debug, Clone, Copy)]
pub(super) struct OutboxLimits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Some of the first frame is written. Whatever else happens, the rest has to be.
    is_first_begun: bool,
}

/// The reader is too far behind for this frame.
#[derive(Debug)]
pub(super) struct Full(pub(super) Bytes);

impl Outbox {
    /// One frame is always taken, however large.
    pub(super) fn push(&mut self, frame: Bytes, limits: OutboxLimits) -> Result<(), Full> {
        let fits = self.frames.len() < limits.messages && self.bytes + frame.len() <= limits.bytes;
        if !fits && !self.frames.is_empty() {
            return Err(Full(frame));
        }
        self.push_last(frame);
        Ok(())
    }

    /// Past the limits: for the frame that says goodbye.
    pub(super) fn push_last(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shows what comes next, and gives how many frames that is.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
        }
        self.frames.len().min(slices.len())
    }

    /// Takes out what was written, and gives how many frames ended with it.
    pub(super) fn advance(&mut self, mut n_written: usize) -> u64 {
        self.bytes -= n_written;
        let mut n_frames = 0;
        while let Some(first) = self.frames.front_mut() {
            if n_written < first.len() {
                first.advance(n_written);
                self.is_first_begun |= n_written > 0;
                break;
            }
            n_written -= first.len();
            self.frames.pop_front();
            self.is_first_begun = false;
            n_frames += 1;
        }
        if self.frames.is_empty() && self.frames.capacity() > IDLE_FRAMES {
            self.frames = VecDeque::new();
        }
        n_frames
    }

    /// Drops all that waits but a frame that is half written, and gives how many bytes that was.
    pub(super) fn clear(&mut self) -> usize {
        let n_kept = usize::from(self.is_first_begun);
        let dropped = self.frames.drain(n_kept..).map(|frame| frame.len()).sum();
        self.bytes -= dropped;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { messages: 3, bytes: 10 };

    #[test]
    fn an_outbox_is_bounded_in_messages_and_in_bytes() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.push(Bytes::from_static(b"a"), LIMITS).unwrap();
        }
        assert!(outbox.push(Bytes::from_static(b"a"), LIMITS).is_err());
        assert_eq!(outbox.advance(1), 1);
        assert!(outbox.push(Bytes::from_static(b"123456789"), LIMITS).is_err());
        assert!(outbox.push(Bytes::from_static(b"12345678"), LIMITS).is_ok());
        assert_eq!(outbox.clear(), 10);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_frame_above_the_limit_goes_when_nothing_else_waits() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"12345678901234567890"), LIMITS).unwrap();
        assert!(outbox.push(Bytes::from_static(b"a"), LIMITS).is_err());
        assert_eq!(outbox.advance(20), 1);
        assert!(outbox.is_empty());
    }
    #[test]
    fn what_is_half_written_stays_whatever_is_dropped() {
        let mut outbox = Outbox::default();
        for frame in ["abc", "def", "gh"] {
            outbox.push_last(Bytes::from_static(frame.as_bytes()));
        }
        assert_eq!(outbox.advance(4), 1);
        assert_eq!(outbox.clear(), 2);
        outbox.push_last(Bytes::from_static(b"bye"));
        let mut slices = [IoSlice::new(&[]); 4];
        let n_slices = outbox.fill(&mut slices);
        assert_eq!(slices[..n_slices].iter().map(|slice| &**slice).collect::<Vec<_>>(), [&b"ef"[..], b"bye"]);
        assert_eq!((outbox.bytes(), outbox.advance(5), outbox.is_empty()), (5, 2, true));
    }
}
