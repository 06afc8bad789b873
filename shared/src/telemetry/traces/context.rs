//! What travels of a span: W3C trace context, version 00, `00-<trace id>-<span id>-<flags>`.

use std::{fmt, num::ParseIntError, str::FromStr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub is_sampled: bool,
}

impl TraceContext {
    /// A new span, of this trace or of a new one.
    pub(super) fn new(trace_id: Option<u128>) -> Self {
        // Zero is no id.
        let trace_id = trace_id.unwrap_or_else(|| rand::random::<u128>().max(1));
        Self { trace_id, span_id: rand::random::<u64>().max(1), is_sampled: true }
    }

    /// As it stands in logs.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct NoTraceContext;

impl From<ParseIntError> for NoTraceContext {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        if !is_traceparent(text) {
            return Err(NoTraceContext);
        }
        let context = Self {
            trace_id: u128::from_str_radix(&text[3..35], 16)?,
            span_id: u64::from_str_radix(&text[36..52], 16)?,
            is_sampled: u8::from_str_radix(&text[53..55], 16)? & 1 == 1,
        };
        if context.trace_id == 0 || context.span_id == 0 { Err(NoTraceContext) } else { Ok(context) }
    }
}

/// Whether it has the form; later versions may say more, and are not read.
pub fn is_traceparent(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let dashes = [2, 35, 52];
    text.len() == 55
        && text.starts_with("00-")
        && text.bytes().enumerate().all(|(at, byte)| if dashes.contains(&at) { byte == b'-' } else { is_hex(byte) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!((context.to_string().as_str(), context.trace_id().as_str()), (text, &text[3..35]));
        assert!(context.is_sampled && !text.replace("-01", "-00").parse::<TraceContext>().unwrap().is_sampled);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319cc-b7ad6b716920333-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(NoTraceContext), "{text}");
        }
    }
}
