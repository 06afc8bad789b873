//! WebSocket frames (RFC 6455) as a server reads and writes them. Knows no I/O and nothing of what the messages say.
//!
//! Own code, because a frame that breaks the RFC has to end in the close code that the RFC names for it, and because a
//! publication is framed once for all sockets, which a codec per connection cannot do.

use bytes::{Buf, Bytes, BytesMut};

/// Control frames carry at most so much.
const CONTROL_BYTES_MAX: usize = 125;
/// A close frame's reason: what a control frame carries, less its code.
pub(super) const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;
/// Longest head of a frame that is sent: no mask, 64-bit length.
const HEAD_BYTES_MAX: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn of(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// How a peer broke the RFC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    Unmasked,
    ReservedBits,
    UnknownOpcode,
    FragmentedControl,
    LongControl,
    /// A continuation of nothing, or a new message inside another.
    OutOfOrder,
    BadClose,
    InvalidText,
    TooLarge,
}

impl Violation {
    pub(super) const fn close_code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::UnknownOpcode
            | Self::FragmentedControl
            | Self::LongControl
            | Self::OutOfOrder
            | Self::BadClose => 1002,
            Self::InvalidText => 1007,
            Self::TooLarge => 1009,
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "frame is not masked",
            Self::ReservedBits => "reserved bits are set",
            Self::UnknownOpcode => "unknown opcode",
            Self::FragmentedControl => "control frame is fragmented",
            Self::LongControl => "control frame is too long",
            Self::OutOfOrder => "fragments are out of order",
            Self::BadClose => "close frame is malformed",
            Self::InvalidText => "text is not UTF-8",
            Self::TooLarge => "message is too large",
        }
    }
}

/// A whole message; its bytes are in the buffer that the reader was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incoming {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// Puts frames and messages together from the bytes of one connection. Holds nothing while no frame is half there.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Received and not looked at, as it came: the usual case, where whole frames arrive.
    unread: Bytes,
    /// The beginning of a frame whose rest has not come, and what came behind it. Empty unless `unread` is.
    partial: BytesMut,
    fragments: Option<Box<Fragments>>,
}

/// The fragments so far of a message.
#[derive(Debug)]
struct Fragments {
    opcode: Opcode,
    payload: Vec<u8>,
    /// Those with nothing in them. Each counts as a byte of the message: else there could be any number of them.
    n_empty: usize,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    opcode: Opcode,
    is_last: bool,
    mask: [u8; 4],
    head_len: usize,
    payload_len: usize,
}

impl Reader {
    /// Takes over received bytes; call it only when [`next`](Self::next) has nothing more.
    pub(super) fn receive(&mut self, bytes: Bytes) {
        debug_assert!(self.unread.is_empty(), "bytes are read before more are taken");
        if self.partial.is_empty() {
            self.unread = bytes;
        } else {
            self.partial.extend_from_slice(&bytes);
        }
    }

    /// Reads the next message into `message`, which it replaces. `None` when more bytes are needed.
    pub(super) fn next(&mut self, max: usize, message: &mut Vec<u8>) -> Result<Option<Incoming>, Violation> {
        loop {
            let bytes: &[u8] = if self.partial.is_empty() { &self.unread } else { &self.partial };
            let Some(head) = Head::parse(bytes)? else {
                self.keep_partial();
                return Ok(None);
            };
            let so_far = self.fragments.as_ref().map_or(0, |fragments| fragments.payload.len() + fragments.n_empty);
            let counted = if head.is_last { head.payload_len } else { head.payload_len.max(1) };
            if !head.opcode.is_control() && counted > max.saturating_sub(so_far) {
                return Err(Violation::TooLarge);
            }
            let frame_len = head.head_len + head.payload_len;
            let Some(payload) = bytes.get(head.head_len..frame_len) else {
                self.keep_partial();
                return Ok(None);
            };
            message.clear();
            message.extend_from_slice(payload);
            unmask(message, head.mask);
            self.advance(frame_len);
            if let Some(incoming) = self.assemble(head, message)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Goes past a frame, and lets go of the buffer that it was the last of.
    fn advance(&mut self, frame_len: usize) {
        if self.partial.is_empty() {
            self.unread.advance(frame_len);
            if self.unread.is_empty() {
                self.unread = Bytes::new();
            }
        } else {
            self.partial.advance(frame_len);
            if self.partial.is_empty() {
                self.partial = BytesMut::new();
            }
        }
    }

    fn keep_partial(&mut self) {
        if !self.unread.is_empty() {
            self.partial.extend_from_slice(&self.unread);
            self.unread = Bytes::new();
        }
    }

    /// Whether a frame ends a message; fragments are kept until their last.
    fn assemble(&mut self, head: Head, message: &mut Vec<u8>) -> Result<Option<Incoming>, Violation> {
        let incoming = match (head.opcode, self.fragments.as_mut()) {
            (Opcode::Close, _) => {
                check_close(message)?;
                return Ok(Some(Incoming::Close));
            }
            (Opcode::Ping, _) => return Ok(Some(Incoming::Ping)),
            (Opcode::Pong, _) => return Ok(Some(Incoming::Pong)),
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::OutOfOrder),
            (Opcode::Text | Opcode::Binary, None) if !head.is_last => {
                let n_empty = usize::from(message.is_empty());
                self.fragments = Some(Box::new(Fragments { opcode: head.opcode, payload: std::mem::take(message), n_empty }));
                return Ok(None);
            }
            (Opcode::Text, None) => Incoming::Text,
            (Opcode::Binary, None) => Incoming::Binary,
            (Opcode::Continuation, Some(fragments)) => {
                fragments.payload.extend_from_slice(message);
                if !head.is_last {
                    fragments.n_empty += usize::from(message.is_empty());
                    return Ok(None);
                }
                let Fragments { opcode, payload, .. } = *self.fragments.take().expect("it was there a line above");
                *message = payload;
                if opcode == Opcode::Text { Incoming::Text } else { Incoming::Binary }
            }
        };
        if incoming == Incoming::Text && std::str::from_utf8(message).is_err() {
            return Err(Violation::InvalidText);
        }
        Ok(Some(incoming))
    }
}

impl Head {
    /// `None` when the head is not whole. What is wrong with a head is said before its payload is waited for.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::of(first & 0x0F).ok_or(Violation::UnknownOpcode)?;
        let is_last = first & 0x80 != 0;
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let short = second & 0x7F;
        if opcode.is_control() && !is_last {
            return Err(Violation::FragmentedControl);
        }
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Violation::LongControl);
        }
        let (len, after_len) = match (short, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
            (126 | 127, _) => return Ok(None),
            (len, _) => (u64::from(len), 2),
        };
        let Some(mask) = bytes.get(after_len..after_len + 4) else { return Ok(None) };
        let mask = mask.try_into().expect("four bytes were taken");
        let payload_len = usize::try_from(len).ok().filter(|len| *len <= isize::MAX as usize - 14).ok_or(Violation::TooLarge)?;
        Ok(Some(Self { opcode, is_last, mask, head_len: after_len + 4, payload_len }))
    }
}

/// An empty payload, or a code that may be sent and a reason that is UTF-8.
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    match payload {
        [] => Ok(()),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 if std::str::from_utf8(reason).is_ok() => Ok(()),
            _ => Err(Violation::BadClose),
        },
        [_] => Err(Violation::BadClose),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (whole, rest) = payload.as_chunks_mut::<4>();
    for chunk in whole {
        *chunk = (u32::from_ne_bytes(*chunk) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// A text frame whose payload `write` appends to the buffer it is given.
pub(super) fn text(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    thread_local! {
        /// Grows to the largest frame of late; what is kept is a copy of exactly its size.
        static SCRATCH: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
    }
    const SCRATCH_BYTES_MAX: usize = 64 << 10;
    let mut scratch = SCRATCH.take();
    scratch.clear();
    scratch.extend_from_slice(&[0; HEAD_BYTES_MAX]);
    write(&mut scratch);
    let (head, head_len) = head(Opcode::Text, scratch.len() - HEAD_BYTES_MAX);
    let start = HEAD_BYTES_MAX - head_len;
    scratch[start..HEAD_BYTES_MAX].copy_from_slice(&head[..head_len]);
    let frame = Bytes::copy_from_slice(&scratch[start..]);
    if scratch.capacity() <= SCRATCH_BYTES_MAX {
        SCRATCH.set(scratch);
    }
    frame
}

pub(super) fn pong(payload: &[u8]) -> Bytes {
    control(Opcode::Pong, payload)
}

/// A close frame; `reason` is cut to what fits.
pub(super) fn close(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    control(Opcode::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

fn control(opcode: Opcode, payload: &[u8]) -> Bytes {
    let (head, head_len) = head(opcode, payload.len());
    [&head[..head_len], payload].concat().into()
}

fn head(opcode: Opcode, payload_len: usize) -> ([u8; HEAD_BYTES_MAX], usize) {
    let mut head = [0; HEAD_BYTES_MAX];
    head[0] = 0x80 | opcode.bits();
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(len), _) if len < 126 => {
            head[1] = len;
            (head, 2)
        }
        (_, Ok(len)) => {
            head[1] = 126;
            head[2..4].copy_from_slice(&len.to_be_bytes());
            (head, 4)
        }
        (_, Err(_)) => {
            head[1] = 127;
            head[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            (head, 10)
        }
    }
}

#[cfg(test)]
mod tests;
