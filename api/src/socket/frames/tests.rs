//! Frames as clients send them: whole, cut anywhere, fragmented, and wrong.

use super::*;
use rstest::rstest;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let (mut head, head_len) = head(Opcode::Text, payload.len());
    (head[0], head[1]) = (first, head[1] | 0x80);
    let mut payload = payload.to_vec();
    unmask(&mut payload, MASK);
    [&head[..head_len], &MASK, &payload].concat()
}

/// Everything that `pieces` amount to.
fn read(pieces: &[&[u8]]) -> Result<Vec<(Incoming, Vec<u8>)>, Violation> {
    let (mut reader, mut message, mut all) = (Reader::default(), Vec::new(), Vec::new());
    for piece in pieces {
        reader.receive(Bytes::copy_from_slice(piece));
        while let Some(incoming) = reader.next(1_000, &mut message)? {
            all.push((incoming, message.clone()));
        }
    }
    Ok(all)
}

#[test]
fn messages_are_the_same_wherever_the_bytes_are_cut() {
    let long = vec![b'x'; 300];
    let frames = [
        masked(0x81, b"one"),
        masked(0x01, b"tw"),
        masked(0x89, b"ping"),
        masked(0x00, b""),
        masked(0x80, b"o"),
        masked(0x82, &long),
        masked(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
    ];
    let bytes = frames.concat();
    let whole = read(&[&bytes]).unwrap();
    let expected = [
        (Incoming::Text, b"one".to_vec()),
        (Incoming::Ping, b"ping".to_vec()),
        (Incoming::Text, b"two".to_vec()),
        (Incoming::Binary, long),
        (Incoming::Close, vec![0x03, 0xe8, b'b', b'y', b'e']),
    ];
    assert_eq!(whole, expected);
    for cut in 0..bytes.len() {
        assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]).unwrap(), expected, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single).unwrap(), expected);
}

#[rstest]
#[case::unmasked(&[0x81, 0x01, b'a'], Violation::Unmasked)]
#[case::reserved_bit_1(&[0xC1, 0x80], Violation::ReservedBits)]
#[case::reserved_bit_2(&[0xA1, 0x80], Violation::ReservedBits)]
#[case::reserved_bit_3(&[0x91, 0x80], Violation::ReservedBits)]
#[case::unknown_data(&[0x83, 0x80], Violation::UnknownOpcode)]
#[case::unknown_control(&[0x8B, 0x80], Violation::UnknownOpcode)]
#[case::fragmented_ping(&[0x09, 0x80], Violation::FragmentedControl)]
#[case::fragmented_close(&[0x08, 0x80], Violation::FragmentedControl)]
#[case::long_ping(&[0x89, 0xFE, 0x00, 0x7E], Violation::LongControl)]
#[case::continuation_of_nothing(&masked(0x80, b"a"), Violation::OutOfOrder)]
#[case::message_inside_a_message(&[masked(0x01, b"a"), masked(0x81, b"b")].concat(), Violation::OutOfOrder)]
#[case::close_of_one_byte(&masked(0x88, &[3]), Violation::BadClose)]
#[case::close_code_that_is_never_sent(&masked(0x88, &[0x03, 0xed]), Violation::BadClose)]
#[case::close_reason_that_is_no_text(&masked(0x88, &[0x03, 0xe8, 0xff]), Violation::BadClose)]
#[case::invalid_text(&masked(0x81, &[0xc3, 0x28]), Violation::InvalidText)]
#[case::invalid_text_in_fragments(&[masked(0x01, &[0xc3]), masked(0x80, &[0x28])].concat(), Violation::InvalidText)]
#[case::too_large(&[0x81, 0xFE, 0x03, 0xE9, 0, 0, 0, 0], Violation::TooLarge)]
#[case::too_large_in_fragments(&[masked(0x01, &[b'a'; 600]), vec![0x80, 0xFE, 0x01, 0xF4, 0, 0, 0, 0]].concat(), Violation::TooLarge)]
#[case::empty_fragments_without_end(&[masked(0x01, b"a"), masked(0x00, b"").repeat(1_000)].concat(), Violation::TooLarge)]
#[case::nothing_but_empty_fragments(&[masked(0x02, b""), masked(0x00, b"").repeat(1_000)].concat(), Violation::TooLarge)]
#[case::length_of_all_ones(&[0x81, 0xFF, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Violation::TooLarge)]
fn what_breaks_the_rfc_is_named(#[case] bytes: &[u8], #[case] violation: Violation) {
    assert_eq!(read(&[bytes]), Err(violation));
}

#[test]
fn a_message_may_be_as_large_as_may_be_in_fragments_too() {
    let frames = [masked(0x01, &[b'a'; 600]), masked(0x89, b""), masked(0x00, &[b'a'; 400]), masked(0x80, b"")].concat();
    assert_eq!(read(&[&frames]).unwrap().pop(), Some((Incoming::Text, vec![b'a'; 1_000])));
}

#[test]
fn text_that_is_cut_inside_a_character_by_fragments_is_text() {
    let frames = [masked(0x01, &[0xc3]), masked(0x80, &[0xa4])].concat();
    assert_eq!(read(&[&frames]).unwrap(), [(Incoming::Text, "ä".as_bytes().to_vec())]);
}

#[rstest]
#[case(0, 2)]
#[case(125, 2)]
#[case(126, 4)]
#[case(65_535, 4)]
#[case(65_536, 10)]
fn a_frame_has_the_shortest_head_for_its_length(#[case] len: usize, #[case] head_len: usize) {
    let frame = text(|buffer| buffer.resize(buffer.len() + len, b'a'));
    assert_eq!(frame.len(), head_len + len);
    assert_eq!(frame[0], 0x81);
    assert!(frame[head_len..].iter().all(|byte| *byte == b'a'));
}

#[test]
fn a_close_reason_is_cut_at_a_character() {
    let frame = close(3501, &"ä".repeat(100));
    assert_eq!(frame[1], 124);
    assert!(std::str::from_utf8(&frame[4..]).is_ok());
}
