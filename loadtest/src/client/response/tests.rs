//! The parser must see the same response however the network cut the bytes.

use proptest::prelude::*;

use super::*;

const OK_SIZED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello";
const OK_CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
    5;name=v\r\nhello\r\nA\r\n, and more\r\n0\r\nTrailer: x\r\n\r\n";
const CONTINUED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n\
    Content-Length: 2\r\nConnection: close\r\n\r\n{}";
const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn feed_pieces(pieces: &[&[u8]], rule: BodyRule) -> Result<Option<(Response, Vec<u8>)>, Malformed> {
    let mut parser = ResponseParser::new(rule);
    let mut body = Vec::new();
    for (piece_idx, piece) in pieces.iter().enumerate() {
        let done = parser.feed(piece, &mut |bytes| body.extend_from_slice(bytes))?;
        if let Some(response) = done {
            assert_eq!(piece_idx + 1, pieces.len(), "finished before the end");
            return Ok(Some((response, body)));
        }
    }
    Ok(None)
}

fn feed_whole(input: &[u8]) -> Result<Option<(Response, Vec<u8>)>, Malformed> {
    feed_pieces(&[input], BodyRule::Expected)
}

fn response(status: u16, keep_alive: bool) -> Response {
    Response { status, keep_alive }
}

#[test]
fn reads_sized_chunked_interim_and_empty_responses() {
    let cases: [(&[u8], Response, &[u8]); 4] = [
        (OK_SIZED, response(200, true), b"hello"),
        (OK_CHUNKED, response(200, true), b"hello, and more"),
        (CONTINUED, response(202, false), b"{}"),
        (NO_CONTENT, response(204, true), b""),
    ];
    for (input, expected, body) in cases {
        assert_eq!(feed_whole(input), Ok(Some((expected, body.to_vec()))));
    }
}

#[test]
fn a_response_to_head_has_no_body_whatever_its_length_says() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    let read = feed_pieces(&[head], BodyRule::HeadOnly);
    assert_eq!(read, Ok(Some((response(200, true), Vec::new()))));
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    let mut parser = ResponseParser::new(BodyRule::Expected);
    let fed = parser.feed(b"HTTP/1.1 200 OK\r\n\r\nabc", &mut |_| ());
    assert_eq!(fed, Ok(None));
    assert_eq!(parser.end_of_stream(), Ok(response(200, false)));
}

#[test]
fn an_end_within_a_response_is_truncation() {
    for len in 0..OK_SIZED.len() {
        let mut parser = ResponseParser::new(BodyRule::Expected);
        assert_eq!(parser.feed(&OK_SIZED[..len], &mut |_| ()), Ok(None));
        assert_eq!(parser.end_of_stream(), Err(Malformed::Truncated));
    }
}

#[test]
fn http_1_0_closes_unless_it_says_otherwise() {
    let plain = feed_whole(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(plain, Ok(Some((response(200, false), Vec::new()))));
    let kept = feed_whole(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(kept, Ok(Some((response(200, true), Vec::new()))));
}

#[test]
fn broken_responses_are_told_apart() {
    let cases: [(&[u8], Malformed); 6] = [
        (b"SSH-2.0-OpenSSH\r\n\r\n", Malformed::Head),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Malformed::ContentLength),
        (b"HTTP/1.1 204 No Content\r\n\r\nx", Malformed::Surplus),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Malformed::Chunk),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", Malformed::Chunk),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", Malformed::Chunk),
    ];
    for (input, expected) in cases {
        assert_eq!(feed_whole(input), Err(expected));
    }
}

#[test]
fn an_endless_head_is_refused() {
    let mut parser = ResponseParser::new(BodyRule::Expected);
    let mut fed = parser.feed(b"HTTP/1.1 200 OK\r\nX-Long: ", &mut |_| ());
    while fed == Ok(None) {
        fed = parser.feed(&[b'a'; 4096], &mut |_| ());
    }
    assert_eq!(fed, Err(Malformed::HeadTooLong));
}

/// Cuts `input` at the given places, wherever they fall.
fn pieces_of<'a>(input: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len())).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

fn chunked_bytes(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_vec();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

proptest! {
    #[test]
    fn split_points_change_nothing(
        which in 0..4usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let input = [OK_SIZED, OK_CHUNKED, CONTINUED, NO_CONTENT][which];
        let mut pieces = pieces_of(input, &cuts);
        while pieces.last().is_some_and(|piece| piece.is_empty()) {
            pieces.pop();
        }
        prop_assert_eq!(feed_pieces(&pieces, BodyRule::Expected), feed_whole(input));
    }

    #[test]
    fn any_chunked_body_comes_out_as_it_went_in(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let input = chunked_bytes(&chunks);
        let mut pieces = pieces_of(&input, &cuts);
        while pieces.last().is_some_and(|piece| piece.is_empty()) {
            pieces.pop();
        }
        let expected = (response(200, true), chunks.concat());
        prop_assert_eq!(feed_pieces(&pieces, BodyRule::Expected), Ok(Some(expected)));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        input in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        if !input.is_empty() {
            let mut parser = ResponseParser::new(BodyRule::Expected);
            for piece in pieces_of(&input, &cuts) {
                if parser.feed(piece, &mut |_| ()).is_err() {
                    break;
                }
            }
        }
    }
}
