//! Server-sent events, as far as completions use them: the data of one event after the other.

/// Longest event that is put together.
const EVENT_MAX: usize = 256 << 10;

/// An event longer than any that a completion has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts a stream into the data of its events, wherever its pieces begin and end.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// A line that has not ended.
    line: Vec<u8>,
    /// Of the event that has not ended; `None` while no line of data came.
    data: Option<String>,
}

impl Cutter {
    /// The data of the events that end in these bytes.
    pub(super) fn cut(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            events.extend(self.end_line());
            self.check()?;
        }
        self.line.extend_from_slice(rest);
        self.check()?;
        Ok(events)
    }

    /// What there is when the stream ends: some servers leave the last blank line out.
    pub(super) fn end(&mut self) -> Option<String> {
        self.end_line().or_else(|| self.data.take())
    }

    /// An event, where the line is blank that ends one.
    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        if line.is_empty() {
            return self.data.take();
        }
        // Other fields, and comments, say nothing that is wanted.
        if let Some(value) = line.strip_prefix("data").and_then(|rest| if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }) {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }

    fn check(&self) -> Result<(), TooLong> {
        let n_bytes = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if n_bytes > EVENT_MAX { Err(TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = ": hello\r\ndata: {\"a\":1}\r\n\r\nevent: x\nid: 7\ndata:two\ndata: lines\n\nretry: 5\n\ndata\n\ndata: [DONE]";
    const EVENTS: [&str; 4] = ["{\"a\":1}", "two\nlines", "", "[DONE]"];

    proptest! {
        #[test]
        fn events_are_the_same_however_the_stream_is_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let (mut cutter, mut events) = (Cutter::default(), Vec::new());
            for pair in cuts.windows(2) {
                events.extend(cutter.cut(&STREAM.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            events.extend(cutter.end());
            prop_assert_eq!(events, EVENTS);
        }

        #[test]
        fn nothing_that_comes_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut cutter = Cutter::default();
            drop(cutter.cut(&bytes));
            drop(cutter.end());
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut cutter = Cutter::default();
        let line = format!("data: {}\n", "x".repeat(1_000));
        let n_taken = (0..1_000).take_while(|_| cutter.cut(line.as_bytes()).is_ok()).count();
        assert!(n_taken < 300, "{n_taken}");
        assert_eq!(Cutter::default().cut(&vec![b'x'; EVENT_MAX + 1]), Err(TooLong));
    }
}
