//! Tells the server's lines apart by searching bytes. Deliveries are never parsed as JSON: at hundreds of thousands a second
//! the load tester would be what is measured.

use memchr::memmem::Finder;

const PUSH: &[u8] = b"{\"push\":{";
const REPLY: &[u8] = b"{\"id\":";

/// One line of the protocol, as far as a load test must understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Publication(Delivery),
    /// The server's heartbeat, `{}`: a pong is due.
    Ping,
    Reply {
        id: u32,
        verdict: Verdict,
    },
    /// The server has ended the subscription.
    Unsubscribed {
        code: u16,
    },
    /// Joins, leaves and whatever else asks for nothing.
    Other,
}

/// A publication as it arrives at one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// 0 where the channel keeps no offsets.
    pub(super) offset: u64,
    /// When it was published, or due; None when it is not one of the load tester's.
    pub(super) published_ns: Option<u64>,
    /// Number of the publisher that sent it.
    pub(super) publisher: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Error { code: u16 },
}

/// The searches, prepared once.
#[derive(Debug)]
pub(super) struct Scanner {
    publication: Finder<'static>,
    offset: Finder<'static>,
    published_ns: Finder<'static>,
    publisher: Finder<'static>,
    unsubscribe: Finder<'static>,
    error: Finder<'static>,
    code: Finder<'static>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            publication: Finder::new("\"pub\":{"),
            offset: Finder::new("\"offset\":"),
            published_ns: Finder::new("\"t\":"),
            publisher: Finder::new("\"p\":"),
            unsubscribe: Finder::new("\"unsubscribe\":{"),
            error: Finder::new("\"error\":{"),
            code: Finder::new("\"code\":"),
        }
    }

    pub(super) fn read(&self, line: &[u8]) -> Line {
        if let Some(push) = line.strip_prefix(PUSH) {
            return self.read_push(push);
        }
        if let Some(rest) = line.strip_prefix(REPLY) {
            let id = number(rest).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
            let verdict = match self.error.find(rest) {
                Some(at) => Verdict::Error { code: self.code_in(&rest[at..]) },
                None => Verdict::Ok,
            };
            return Line::Reply { id, verdict };
        }
        match line.trim_ascii() {
            b"{}" => Line::Ping,
            line => other_reply(line),
        }
    }

    fn read_push(&self, push: &[u8]) -> Line {
        if let Some(at) = self.publication.find(push) {
            let publication = &push[at..];
            let published_ns = self.number_behind(&self.published_ns, publication);
            let publisher = self.number_behind(&self.publisher, publication).unwrap_or(0);
            return Line::Publication(Delivery {
                offset: self.number_behind(&self.offset, publication).unwrap_or(0),
                published_ns,
                publisher: u32::try_from(publisher).unwrap_or(0),
            });
        }
        match self.unsubscribe.find(push) {
            Some(at) => Line::Unsubscribed { code: self.code_in(&push[at..]) },
            None => Line::Other,
        }
    }

    fn code_in(&self, text: &[u8]) -> u16 {
        self.number_behind(&self.code, text).and_then(|code| u16::try_from(code).ok()).unwrap_or(0)
    }

    fn number_behind(&self, key: &Finder<'_>, text: &[u8]) -> Option<u64> {
        let at = key.find(text)?;
        number(&text[at + key.needle().len()..])
    }
}

/// A reply whose members come in another order than the protocol's; rare enough to be parsed.
fn other_reply(line: &[u8]) -> Line {
    #[derive(serde::Deserialize)]
    struct Reply {
        id: u32,
        error: Option<Refusal>,
    }
    #[derive(serde::Deserialize)]
    struct Refusal {
        code: u16,
    }
    match serde_json::from_slice(line) {
        Ok(Reply { id, error: None }) => Line::Reply { id, verdict: Verdict::Ok },
        Ok(Reply { id, error: Some(Refusal { code }) }) => Line::Reply { id, verdict: Verdict::Error { code } },
        Err(_) => Line::Other,
    }
}

/// The digits that `text` begins with.
fn number(text: &[u8]) -> Option<u64> {
    let mut value: Option<u64> = None;
    for byte in text {
        match byte {
            b'0'..=b'9' => value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?),
            _ => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Line {
        Scanner::new().read(line.as_bytes())
    }

    #[test]
    fn a_publication_gives_its_offset_time_and_publisher_in_any_order() {
        let expected = Line::Publication(Delivery { offset: 812, published_ns: Some(1_234_567_890_123), publisher: 3 });
        for line in [
            r#"{"push":{"channel":"chat:x","pub":{"data":{"t":1234567890123,"p":3,"x":"aaa"},"offset":812}}}"#,
            r#"{"push":{"channel":"chat:x","pub":{"offset":812,"data":{"p":3,"t":1234567890123}}}}"#,
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
        let foreign = read(r#"{"push":{"channel":"chat:x","pub":{"data":{},"offset":1}}}"#);
        assert_eq!(foreign, Line::Publication(Delivery { offset: 1, published_ns: None, publisher: 0 }));
    }

    #[test]
    fn replies_have_an_id_and_perhaps_an_error() {
        assert_eq!(read(r#"{"id":17,"publish":{}}"#), Line::Reply { id: 17, verdict: Verdict::Ok });
        let refused = read(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#);
        assert_eq!(refused, Line::Reply { id: 2, verdict: Verdict::Error { code: 103 } });
        assert_eq!(read(r#"{"error":{"code":103,"message":"no"},"id":2}"#), refused);
    }

    #[test]
    fn other_lines_are_told_apart() {
        assert_eq!(read("{}"), Line::Ping);
        assert_eq!(read(r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#), Line::Unsubscribed { code: 2500 });
        assert_eq!(read(r#"{"push":{"channel":"c","join":{"info":{"user":"","client":"a"}}}}"#), Line::Other);
        assert_eq!(read("hello"), Line::Other);
        assert_eq!(read(r#"{"id":99999999999999999999}"#), Line::Reply { id: 0, verdict: Verdict::Ok });
    }
}
