//! What one message of a channel says. No JSON is read: what is fanned out is passed on as it came.
//!
//! - `p<offset>:<epoch>:<ms>:<body>` a publication; without history the offset is 0 and the epoch empty
//! - `j<info>` and `l<info>` somebody came or left
//!
//! To add a kind: its letter here, and its writer beside the operation that sends it. A process that does not know a kind skips it.

use crate::channels::Publication;
use bytes::Bytes;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// The epoch is the range of its bytes.
    Publication {
        epoch: Bytes,
        publication: Publication,
    },
    Join(Bytes),
    Leave(Bytes),
}

/// `None` for what none of ours has sent.
pub(super) fn parse(payload: &Bytes) -> Option<Payload> {
    match payload.first()? {
        b'p' => publication(payload),
        b'j' => Some(Payload::Join(payload.slice(1..))),
        b'l' => Some(Payload::Leave(payload.slice(1..))),
        _ => None,
    }
}

fn publication(payload: &Bytes) -> Option<Payload> {
    let (mut colons, mut at) = ([0; 3], 1);
    for colon in &mut colons {
        *colon = at + memchr::memchr(b':', payload.get(at..)?)?;
        at = *colon + 1;
    }
    let [offset_ends, epoch_ends, time_ends] = colons;
    let body = payload.slice(time_ends + 1..);
    if !body.starts_with(b"{\"data\":") {
        return None;
    }
    let offset = str::from_utf8(&payload[1..offset_ends]).ok()?.parse().ok()?;
    let published_at_ms = str::from_utf8(&payload[epoch_ends + 1..time_ends]).ok()?.parse().ok()?;
    let epoch = payload.slice(offset_ends + 1..epoch_ends);
    Some(Payload::Publication { epoch, publication: Publication { offset, published_at_ms, body } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(payload: &str) -> Option<Payload> {
        parse(&Bytes::copy_from_slice(payload.as_bytes()))
    }

    #[test]
    fn each_kind_is_told_by_its_letter() {
        let body = Bytes::from_static(b"{\"data\":\"a:b:c\"}");
        let publication = Publication { offset: 7, published_at_ms: -5, body: body.clone() };
        assert_eq!(read("p7:ab:-5:{\"data\":\"a:b:c\"}"), Some(Payload::Publication { epoch: Bytes::from_static(b"ab"), publication }));
        let live = Publication { offset: 0, published_at_ms: 9, body };
        assert_eq!(read("p0::9:{\"data\":\"a:b:c\"}"), Some(Payload::Publication { epoch: Bytes::new(), publication: live }));
        assert_eq!(read("j{}"), Some(Payload::Join(Bytes::from_static(b"{}"))));
        assert_eq!(read("l{}"), Some(Payload::Leave(Bytes::from_static(b"{}"))));
        for strange in
            ["", "x", "p", "p1:e:2", "p1:e:2:{}", "p:e:2:{\"data\":1}", "p1:e:x:{\"data\":1}", "p99999999999999999999:e:1:{\"data\":1}"]
        {
            assert_eq!(read(strange), None, "{strange}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut payload = vec![b'p'];
            payload.extend(bytes);
            parse(&payload.into());
        }
    }
}
