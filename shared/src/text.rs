//! Text that no store can hold: NUL and lone surrogates, found in JSON bytes before they are parsed.

use crate::{Code, Error, Result};
use memchr::memchr_iter;

/// Text without control characters, as a JSON Schema pattern.
pub const ONE_LINE_PATTERN: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";

/// What is not seen, or makes the rest be seen otherwise than it is: control characters, and those that change the direction of writing.
pub fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Refuses the JSON escapes `\u0000` and unpaired `\uD800`–`\uDFFF` anywhere in `json`.
///
/// PostgreSQL cannot hold them, and a parser that keeps payloads raw would let them through; so every body is looked at
/// here, once. Bytes that are not JSON at all are left to the parser.
pub fn check_json_text(json: &[u8]) -> Result<()> {
    let mut skip_until = 0;
    for backslash in memchr_iter(b'\\', json) {
        if backslash < skip_until {
            continue;
        }
        // An escape takes two bytes, `\uXXXX` six; the second of two backslashes starts nothing.
        skip_until = backslash + 2;
        let Some(unit) = unicode_escape(json, backslash) else { continue };
        skip_until = backslash + 6;
        match unit {
            0 => return Err(Error::new(Code::InvalidText, "The NUL character (\\u0000) is not allowed in any text.")),
            0xD800..=0xDBFF => match unicode_escape(json, backslash + 6) {
                Some(0xDC00..=0xDFFF) => skip_until = backslash + 12,
                _ => return Err(lone_surrogate()),
            },
            0xDC00..=0xDFFF => return Err(lone_surrogate()),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses NUL in text that came by path, query or header.
pub fn check_no_nul(text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::new(Code::InvalidText, "The NUL character is not allowed in any text."));
    }
    Ok(())
}

fn lone_surrogate() -> Error {
    Error::new(Code::InvalidText, "A text holds an unpaired surrogate escape (\\uD800–\\uDFFF).")
}

fn unicode_escape(json: &[u8], at: usize) -> Option<u16> {
    let escape = json.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") {
        return None;
    }
    let digits = std::str::from_utf8(&escape[2..]).ok()?;
    if digits.starts_with('+') {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
