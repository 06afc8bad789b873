//! Picks the number of points out of the answer to a bulk of them while it passes: `"accepted":<n>`, in however many pieces the bytes come.

const OPENING: &[u8] = b"\"accepted\":";

/// The points that one answer says were accepted.
#[derive(Debug, Default)]
pub(crate) struct AcceptedPoints {
    /// Bytes of the opening seen so far.
    n_matched: usize,
    value: u64,
    is_over: bool,
}

impl AcceptedPoints {
    /// Goes through the next bytes of the answer.
    pub(crate) fn read(&mut self, piece: &[u8]) {
        for byte in piece {
            match () {
                () if self.is_over => return,
                () if self.n_matched < OPENING.len() => {
                    self.n_matched = match () {
                        () if *byte == OPENING[self.n_matched] => self.n_matched + 1,
                        () => usize::from(*byte == OPENING[0]),
                    };
                }
                () if byte.is_ascii_digit() => self.value = self.value.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
                () => self.is_over = true,
            }
        }
    }

    /// What the answer named, now that it is whole; the next bytes begin a new one.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(self).value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_however_the_answer_is_cut() {
        let answer = br#"{"accepted":12,"rejected":[{"index":3,"accepted":7}]}"#;
        for cut in 0..answer.len() {
            let mut points = AcceptedPoints::default();
            points.read(&answer[..cut]);
            points.read(&answer[cut..]);
            assert_eq!(points.take(), 12, "{cut}");
        }
        let mut points = AcceptedPoints::default();
        points.read(b"{\"id\":1}");
        assert_eq!(points.take(), 0);
    }
}
