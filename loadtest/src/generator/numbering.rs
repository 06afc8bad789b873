//! Makes requests that are sent again and again differ: in places of its own, each holds the number of the times it was sent.

use std::sync::atomic::{AtomicU64, Ordering};

/// What stands in a request where its number goes, with leading zeros.
pub(crate) const NUMBER_PLACE: &str = "######";

/// Where the requests of a plan hold their numbers, and how far each has counted; kept over the runs of a command.
#[derive(Debug)]
pub(crate) struct Numbering(Vec<Counter>);

#[derive(Debug)]
struct Counter {
    places: Vec<usize>,
    next: AtomicU64,
}

impl Numbering {
    pub(crate) fn of(requests: &[Box<[u8]>]) -> Self {
        let is_place = |bytes: &[u8]| bytes == NUMBER_PLACE.as_bytes();
        let places = |request: &[u8]| {
            request.windows(NUMBER_PLACE.len()).enumerate().filter_map(|(at, bytes)| is_place(bytes).then_some(at)).collect()
        };
        Self(requests.iter().map(|request| Counter { places: places(request), next: AtomicU64::new(0) }).collect())
    }

    /// The request to send: as it is, or its copy in `numbered` with the next number. After a million they come again.
    pub(super) fn number<'r>(&self, request_idx: usize, request: &'r [u8], numbered: &'r mut Vec<u8>) -> &'r [u8] {
        let counter = &self.0[request_idx];
        if counter.places.is_empty() {
            return request;
        }
        let number = format!("{:06}", counter.next.fetch_add(1, Ordering::Relaxed) % 1_000_000);
        numbered.clear();
        numbered.extend_from_slice(request);
        for at in &counter.places {
            numbered[*at..*at + number.len()].copy_from_slice(number.as_bytes());
        }
        numbered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_by_itself_and_those_without_a_place_stay_as_they_are() {
        let requests: Vec<Box<[u8]>> = ["a-######-######", "plain", "######"].map(|text| text.as_bytes().into()).into();
        let numbering = Numbering::of(&requests);
        let mut numbered = Vec::new();
        let mut sent = |idx: usize| String::from_utf8_lossy(numbering.number(idx, &requests[idx], &mut numbered)).into_owned();
        assert_eq!([sent(0), sent(0), sent(1), sent(2)], ["a-000000-000000", "a-000001-000001", "plain", "000000"]);
    }
}
