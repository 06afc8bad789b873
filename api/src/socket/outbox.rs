//! What waits to be sent to one socket: whole frames, bounded in number and in bytes, and by what waits for others.

use super::memory::Claim;
use bytes::{Buf, Bytes};
use std::{collections::VecDeque, io::IoSlice, rc::Rc};

/// Frames that an idle outbox keeps room for.
const IDLE_FRAMES: usize = 4;

#[derive(Debug, Clone, Copy)]
pub(super) struct OutboxLimits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// A frame, and what it takes of memory. Cheap to clone: the same may wait for many.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    bytes: Bytes,
    claim: Rc<Claim>,
}

impl Frame {
    pub(super) fn new(bytes: Bytes, claim: Rc<Claim>) -> Self {
        Self { bytes, claim }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is room for it to wait.
    pub(super) fn fits(&self) -> bool {
        self.claim.fits()
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Some of the first frame is written. Whatever else happens, the rest has to be.
    is_first_begun: bool,
}

/// The reader is too far behind for this frame, or all readers together are.
#[derive(Debug)]
pub(super) struct Full(pub(super) Frame);

impl Outbox {
    /// One frame is always taken, however large.
    pub(super) fn push(&mut self, frame: Frame, limits: OutboxLimits) -> Result<(), Full> {
        let fits = || self.frames.len() < limits.messages && self.bytes + frame.len() <= limits.bytes && frame.fits();
        if !self.frames.is_empty() && !fits() {
            return Err(Full(frame));
        }
        self.push_last(frame);
        Ok(())
    }

    /// Past the limits: for the frame that says goodbye.
    pub(super) fn push_last(&mut self, frame: Frame) {
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

    /// Whether there is room for the last frame to wait: it may have been the one that is always taken.
    pub(super) fn last_fits(&self) -> bool {
        self.frames.back().is_none_or(Frame::fits)
    }

    /// Shows what comes next, and gives how many frames that is.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(&frame.bytes);
        }
        self.frames.len().min(slices.len())
    }

    /// Takes out what was written, and gives how many frames ended with it.
    pub(super) fn advance(&mut self, mut n_written: usize) -> u64 {
        self.bytes -= n_written;
        let mut n_frames = 0;
        while let Some(first) = self.frames.front_mut() {
            if n_written < first.len() {
                first.bytes.advance(n_written);
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
    use crate::socket::memory::Memory;

    const LIMITS: OutboxLimits = OutboxLimits { messages: 3, bytes: 10 };

    fn frame(text: &'static str) -> Frame {
        Frame::new(Bytes::from_static(text.as_bytes()), Memory::of_thread(0, 1).claim(text.len()))
    }

    #[test]
    fn an_outbox_is_bounded_in_messages_and_in_bytes() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.push(frame("a"), LIMITS).unwrap();
        }
        assert!(outbox.push(frame("a"), LIMITS).is_err());
        assert_eq!(outbox.advance(1), 1);
        assert!(outbox.push(frame("123456789"), LIMITS).is_err());
        assert!(outbox.push(frame("12345678"), LIMITS).is_ok());
        assert_eq!(outbox.clear(), 10);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_frame_above_the_limit_goes_when_nothing_else_waits() {
        let mut outbox = Outbox::default();
        outbox.push(frame("12345678901234567890"), LIMITS).unwrap();
        assert!(outbox.push(frame("a"), LIMITS).is_err());
        assert_eq!(outbox.advance(20), 1);
        assert!(outbox.is_empty());
    }

    #[test]
    fn where_others_fill_the_memory_one_frame_waits_and_is_known_to_have_no_room() {
        let memory = Memory::of_thread(0, 1);
        let frame = || Frame::new(Bytes::from_static(b"a"), memory.claim(1));
        let mut outbox = Outbox::default();
        outbox.push(frame(), LIMITS).unwrap();
        assert!(outbox.last_fits());
        let others = memory.claim(8 << 20);
        assert!(outbox.push(frame(), LIMITS).is_err() && !outbox.last_fits());
        drop(others);
        outbox.push(frame(), LIMITS).unwrap();
        assert_eq!((outbox.clear(), memory.taken()), (2, 0));
    }

    #[test]
    fn what_is_half_written_stays_whatever_is_dropped() {
        let mut outbox = Outbox::default();
        for text in ["abc", "def", "gh"] {
            outbox.push_last(frame(text));
        }
        assert_eq!(outbox.advance(4), 1);
        assert_eq!(outbox.clear(), 2);
        outbox.push_last(frame("bye"));
        let mut slices = [IoSlice::new(&[]); 4];
        let n_slices = outbox.fill(&mut slices);
        assert_eq!(slices[..n_slices].iter().map(|slice| &**slice).collect::<Vec<_>>(), [&b"ef"[..], b"bye"]);
        assert_eq!((outbox.bytes(), outbox.advance(5), outbox.is_empty()), (5, 2, true));
    }
}
