//! What waits to be sent to one socket: whole frames, bounded in number and in bytes.

use bytes::Bytes;
use std::collections::VecDeque;

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
}

/// The reader is too far behind.
#[derive(Debug)]
pub(super) struct Full;

impl Outbox {
    /// One frame is always taken, however large.
    pub(super) fn push(&mut self, frame: Bytes, limits: OutboxLimits) -> Result<(), Full> {
        let fits = self.frames.len() < limits.messages && self.bytes + frame.len() <= limits.bytes;
        if !fits && !self.frames.is_empty() {
            return Err(Full);
        }
        self.push_last(frame);
        Ok(())
    }

    /// Past the limits: for the frame that says goodbye.
    pub(super) fn push_last(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        if self.frames.is_empty() && self.frames.capacity() > IDLE_FRAMES {
            self.frames = VecDeque::new();
        }
        Some(frame)
    }

    /// Drops all that waits, and gives how many bytes that was.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(self).bytes
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
        outbox.pop();
        assert!(outbox.push(Bytes::from_static(b"123456789"), LIMITS).is_err());
        assert!(outbox.push(Bytes::from_static(b"12345678"), LIMITS).is_ok());
        assert_eq!(outbox.clear(), 10);
        assert!(outbox.pop().is_none());
    }

    #[test]
    fn a_frame_above_the_limit_goes_when_nothing_else_waits() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"12345678901234567890"), LIMITS).unwrap();
        assert!(outbox.push(Bytes::from_static(b"a"), LIMITS).is_err());
        assert_eq!(outbox.pop().unwrap().len(), 20);
        assert!(outbox.pop().is_none());
    }
}
