//! That a subscription begins with everything exactly once, or says that it cannot.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn publication(offset: u64) -> Publication {
    Publication { offset, published_at_ms: 0, body: Bytes::from_static(b"{\"data\":1}") }
}

fn buffered(epoch: &str, offset: u64) -> Buffered {
    Buffered { epoch: epoch.into(), publication: publication(offset) }
}

fn history(offsets: impl IntoIterator<Item = u64>, top: u64) -> History {
    History { publications: offsets.into_iter().map(publication).collect(), position: Position::new(top, "e") }
}

fn offsets(publications: &[Publication]) -> Vec<u64> {
    publications.iter().map(|publication| publication.offset).collect()
}

#[test]
fn a_client_that_missed_something_gets_it_in_the_reply() {
    let begun = begin(Some(&Position::new(3, "e")), history([4, 5], 5), vec![buffered("e", 5), buffered("e", 6)]).unwrap();
    assert_eq!((begun.recovered, begun.reply.offset, begun.top), (Some(true), 3, 6));
    assert_eq!((offsets(&begun.missed), offsets(&begun.live)), (vec![4, 5], vec![6]));
}

#[test]
fn what_is_no_longer_kept_is_told_and_never_skipped() {
    for (asked, kept, top) in [
        (Position::new(3, "e"), vec![5], 5),               // 4 was trimmed
        (Position::new(3, "e"), vec![], 5),                // all has expired
        (Position::new(3, "old"), vec![4, 5], 5),          // another epoch
        (Position::new(9, "e"), vec![], 5),                // ahead of the channel
        (Position::new(3, "e"), vec![4], 5),               // the newest is not there
        (Position::new(0, "e"), (1..=300).collect(), 301), // more than one answer holds
        (Position::new(u64::MAX, "e"), vec![], 5),
    ] {
        let begun = begin(Some(&asked), history(kept, top), vec![]).unwrap();
        assert_eq!((begun.recovered, begun.reply.offset, begun.missed.len()), (Some(false), top, 0), "{asked:?}");
    }
}

#[test]
fn a_client_without_an_epoch_goes_on_in_any() {
    let begun = begin(Some(&Position::new(0, "")), history([1], 1), vec![]).unwrap();
    assert_eq!((begun.recovered, &*begun.reply.epoch), (Some(true), "e"));
}

#[test]
fn a_client_that_asks_for_nothing_begins_at_the_top() {
    let begun = begin(None, history([], 7), vec![buffered("e", 7), buffered("e", 8), buffered("", 0)]).unwrap();
    assert_eq!((begun.recovered, begun.reply.offset, begun.top), (None, 7, 8));
    assert_eq!((offsets(&begun.missed), offsets(&begun.live)), (vec![], vec![8, 0]));
}

#[test]
fn a_buffer_that_does_not_lead_on_is_a_gap() {
    assert_eq!(begin(None, history([], 7), vec![buffered("e", 9)]), Err(Gap));
    assert_eq!(begin(None, history([], 7), vec![buffered("f", 1)]), Err(Gap));
}

proptest! {
    /// However pub/sub and the read interleave, with repetitions and out of order, the client ends with every offset once.
    #[test]
    fn nothing_is_missed_or_repeated(
        top in 0u64..40,
        kept in 0u64..40,
        behind in 0u64..40,
        heard_from in 0u64..60,
        heard_to in 0u64..60,
        shuffled in any::<prop::sample::Index>(),
        repeats in 0usize..3,
    ) {
        let asked = Position::new(top.saturating_sub(behind), "e");
        let kept_from = top.saturating_sub(kept) + 1;
        let read = (kept_from.max(asked.offset + 1)..=top).collect::<Vec<_>>();
        let mut heard: Vec<u64> = (heard_from.max(1)..=heard_to).collect();
        for _ in 0..repeats {
            heard.extend(heard.clone().into_iter().take(3));
        }
        if !heard.is_empty() {
            let at = shuffled.index(heard.len());
            heard.rotate_left(at);
        }
        let last_heard = heard.iter().copied().max().unwrap_or(0);
        let connects = last_heard <= top || heard.iter().all(|offset| *offset <= top || *offset == top + 1 || heard.contains(&(offset - 1)));
        let begun = begin(Some(&asked), history(read, top), heard.iter().map(|offset| buffered("e", *offset)).collect());
        let Ok(begun) = begun else {
            prop_assert!(!connects);
            return Ok(());
        };
        prop_assert!(connects);
        let seen: Vec<u64> = offsets(&begun.missed).into_iter().chain(offsets(&begun.live)).collect();
        let expected: Vec<u64> = (begun.reply.offset + 1..=begun.top).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(begun.top, top.max(last_heard));
        prop_assert_eq!(begun.recovered == Some(true), kept_from <= asked.offset + 1);
        prop_assert_eq!(begun.reply.offset, if begun.recovered == Some(true) { asked.offset } else { top });
    }
}
