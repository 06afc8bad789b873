//! Picks the ids of jobs out of answers while they pass: `"id":"<uuid>"`, in however many pieces the bytes come.

const OPENING: &[u8] = b"\"id\":\"";
const UUID_CHARS: usize = 36;

/// The ids that one answer named.
#[derive(Debug)]
pub(crate) struct JobIds {
    found: Vec<u128>,
    /// Whether the last answer's ids have been handed out, so that the next bytes begin a new one.
    is_taken: bool,
    /// Bytes of the opening seen so far.
    n_matched: usize,
    /// Characters of the id seen so far, and their value.
    n_chars: usize,
    value: u128,
}

impl JobIds {
    pub(crate) fn new() -> Self {
        Self { found: Vec::new(), is_taken: true, n_matched: 0, n_chars: 0, value: 0 }
    }

    /// Goes through the next bytes of the answer.
    pub(crate) fn read(&mut self, piece: &[u8]) {
        if self.is_taken {
            self.is_taken = false;
            self.found.clear();
            self.restart();
        }
        for byte in piece {
            if self.n_matched < OPENING.len() {
                self.n_matched = match () {
                    () if *byte == OPENING[self.n_matched] => self.n_matched + 1,
                    () => usize::from(*byte == OPENING[0]),
                };
            } else {
                self.read_id(*byte);
            }
        }
    }

    /// What the answer named, now that it is whole.
    pub(crate) fn take(&mut self) -> &[u128] {
        if self.is_taken {
            // An answer without a body named nothing.
            self.found.clear();
        }
        self.is_taken = true;
        &self.found
    }

    fn read_id(&mut self, byte: u8) {
        match char::from(byte).to_digit(16) {
            Some(digit) => self.value = self.value << 4 | u128::from(digit),
            None if byte == b'-' => {}
            // Some other id.
            None => return self.restart(),
        }
        self.n_chars += 1;
        if self.n_chars == UUID_CHARS {
            self.found.push(self.value);
            self.restart();
        }
    }

    fn restart(&mut self) {
        (self.n_matched, self.n_chars, self.value) = (0, 0, 0);
    }
}

/// The id as the platform writes it.
pub(crate) fn shown(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The inverse of [`shown`].
pub(crate) fn parsed(text: &str) -> Option<u128> {
    let hex = text.replace('-', "");
    (hex.len() == 32).then(|| u128::from_str_radix(&hex, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_however_the_answer_is_cut() {
        let first = "01a1fb40-f998-71ea-83d1-3bd51ccbb3da";
        let second = "01a1fb40-f998-71ea-83d1-3bd51ccbb3db";
        let answer = format!(r#"{{"items":[{{"index":0,"id":"{first}"}},{{"owner_id":"{second}"}},{{"id":"x"}},{{"id":"{second}"}}]}}"#);
        let expected = [parsed(first), parsed(second)].map(Option::unwrap_or_default);
        for cut in 0..answer.len() {
            let mut ids = JobIds::new();
            ids.read(&answer.as_bytes()[..cut]);
            ids.read(&answer.as_bytes()[cut..]);
            assert_eq!(ids.take(), expected, "{cut}");
            assert!(ids.take().is_empty());
        }
        assert_eq!(expected.map(shown), [first, second]);
    }
}
