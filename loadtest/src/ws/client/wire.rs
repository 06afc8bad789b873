//! RFC 6455 as a client needs it for measuring: frames are found in the bytes as they were read, without a copy, and masked
//! frames are written into a buffer. Extensions and fragments are not spoken: nothing here offers or sends them.

/// The nonce of the RFC's own example. A random one would ask for SHA-1 here, to prove nothing: no cache stands between.
const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must answer to it.
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Any key but zero makes the server do the work of unmasking.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Longest frame that is accepted: a recovered history of many large publications.
const MAX_FRAME_BYTES: u64 = 32 * 1024 * 1024;
/// Longest response head that is accepted.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ws) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A frame found at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ws) struct Frame<'a> {
    pub(in crate::ws) opcode: Opcode,
    pub(in crate::ws) payload: &'a [u8],
    /// Bytes of the frame with its header.
    pub(in crate::ws) len: usize,
}

/// Why what came is not what a server may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the answer to the upgrade is not HTTP/1.1")]
    Head,
    #[error("the answer to the upgrade has another Sec-WebSocket-Accept")]
    Accept,
    #[error("a frame has reserved bits set")]
    Reserved,
    #[error("a frame is fragmented")]
    Fragmented,
    #[error("a frame is masked")]
    Masked,
    #[error("a frame is longer than {MAX_FRAME_BYTES} bytes")]
    TooLong,
}

/// The frame that `bytes` begin with; None while it is not whole.
pub(in crate::ws) fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Malformed::Reserved);
    }
    if second & 0x80 != 0 {
        return Err(Malformed::Masked);
    }
    let opcode = match first & 0x0f {
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        0 => return Err(Malformed::Fragmented),
        _ => return Err(Malformed::Reserved),
    };
    if first & 0x80 == 0 {
        return Err(Malformed::Fragmented);
    }
    let (header, length) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    if length > MAX_FRAME_BYTES {
        return Err(Malformed::TooLong);
    }
    let len = header + length as usize;
    Ok(bytes.get(header..len).map(|payload| Frame { opcode, payload, len }))
}

/// Appends a masked frame.
pub(in crate::ws) fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let begins = out.len();
    out.extend_from_slice(payload);
    for (at, byte) in out[begins..].iter_mut().enumerate() {
        *byte ^= MASK[at % 4];
    }
}

/// The code of a close frame; 1005 says that there is none.
pub(in crate::ws) fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code))
}

/// The request that asks for the upgrade.
pub(in crate::ws) fn upgrade_request(authority: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\n\r\n"
    )
    .into_bytes()
}

/// What a server said to the upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ws) enum Upgrade {
    /// It spoke, up to this byte, and frames follow.
    Done {
        head_len: usize,
    },
    Refused {
        status: u16,
    },
    /// The head is not whole yet.
    Awaited,
}

pub(in crate::ws) fn read_upgrade(bytes: &[u8]) -> Result<Upgrade, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let head_len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Ok(Upgrade::Awaited),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed::Head),
    };
    match parsed.code {
        Some(101) => {}
        Some(status) => return Ok(Upgrade::Refused { status }),
        None => return Err(Malformed::Head),
    }
    let is_right = |header: &httparse::Header<'_>| header.name.eq_ignore_ascii_case("sec-websocket-accept") && header.value == ACCEPT;
    match parsed.headers.iter().any(is_right) {
        true => Ok(Upgrade::Done { head_len }),
        false => Err(Malformed::Accept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's frame: as ours without the mask.
    fn from_server(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        write(&mut masked, opcode, payload);
        let header = masked.len() - payload.len() - 4;
        let mut bytes = masked[..header].to_vec();
        bytes[1] &= 0x7f;
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_frame_of_any_length_is_found_once_it_is_whole() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let payload = vec![b'x'; length];
            let mut bytes = from_server(Opcode::Text, &payload);
            for cut in [0, 1, 2, 3, bytes.len() - 1] {
                assert_eq!(parse(&bytes[..cut.min(bytes.len() - 1)]), Ok(None), "{length} cut at {cut}");
            }
            bytes.push(0x81);
            let frame = parse(&bytes).expect("legal").expect("whole");
            assert_eq!((frame.opcode, frame.payload.len(), frame.len), (Opcode::Text, length, bytes.len() - 1));
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        let cases = [
            ([0xc1, 0x00], Malformed::Reserved),
            ([0x83, 0x00], Malformed::Reserved),
            ([0x01, 0x00], Malformed::Fragmented),
            ([0x80, 0x00], Malformed::Fragmented),
            ([0x81, 0x80], Malformed::Masked),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(&bytes), Err(expected), "{bytes:x?}");
        }
        let too_long = [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(parse(&too_long), Err(Malformed::TooLong));
    }

    #[test]
    fn our_frames_are_masked_and_unmask_to_the_payload() {
        let mut bytes = Vec::new();
        write(&mut bytes, Opcode::Text, b"hello");
        assert_eq!(&bytes[..2], [0x81, 0x85]);
        let unmasked: Vec<u8> = bytes[6..].iter().zip(bytes[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(unmasked, b"hello");
    }

    #[test]
    fn only_the_right_accept_is_an_upgrade() {
        let head = |accept: &str| format!("HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: {accept}\r\n\r\nxy");
        let right = head("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(read_upgrade(right.as_bytes()), Ok(Upgrade::Done { head_len: right.len() - 2 }));
        assert_eq!(read_upgrade(&right.as_bytes()[..20]), Ok(Upgrade::Awaited));
        assert_eq!(read_upgrade(head("other").as_bytes()), Err(Malformed::Accept));
        assert_eq!(read_upgrade(b"HTTP/1.1 503 Busy\r\n\r\n"), Ok(Upgrade::Refused { status: 503 }));
        assert_eq!(read_upgrade(b"SSH-2.0\r\n\r\n"), Err(Malformed::Head));
    }

    #[test]
    fn a_close_frame_has_a_code_or_1005() {
        assert_eq!(close_code(&[0x0b, 0xc0, b'x']), 3008);
        assert_eq!(close_code(&[]), 1005);
    }
}
