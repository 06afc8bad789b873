//! What a payload or result may hold, checked in one pass over its bytes so that they are never parsed into a tree.

use crate::{Code, Error, Result, text};

/// Deepest nesting of arrays and objects in a payload or result. Parsers commonly stop at 128, and answers nest it a few levels further.
pub const MAX_DEPTH: usize = 100;

/// Refuses JSON that is larger than `max_bytes`, nested too deep, or holds NUL, lone surrogates or numbers beyond a double.
///
/// `json` must already be well-formed; `name` is what to call it in a refusal and its pointer (`payload`, `result`).
pub fn check(json: &str, name: &str, max_bytes: usize) -> Result<()> {
    let pointer = format!("/{name}");
    if json.len() > max_bytes {
        let detail = format!("is {} bytes long, at most {max_bytes} are allowed", json.len());
        return Err(Error::new(Code::PayloadTooLarge, format!("The {name} is too large.")).with_field(pointer, "too_large", detail));
    }
    text::check_json_text(json.as_bytes()).map_err(|error| {
        let detail = error.detail.clone().into_owned();
        error.with_field(pointer.clone(), "invalid_text", detail)
    })?;
    check_shape(json.as_bytes()).map_err(|broken| match broken {
        Broken::Depth => {
            let detail = format!("is nested deeper than {MAX_DEPTH} levels");
            Error::new(Code::JsonTooDeep, format!("The {name} is nested too deep.")).with_field(pointer, "too_deep", detail)
        }
        Broken::Number => Error::invalid(pointer, "number_out_of_range", "holds a number that no double can hold"),
    })
}

enum Broken {
    Depth,
    Number,
}

fn check_shape(json: &[u8]) -> Result<(), Broken> {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = string_end(json, at),
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Broken::Depth);
                }
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let length = json[at..].iter().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
                check_number(&json[at..at + length])?;
                at += length;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The first byte after the string that opens at `at`.
fn string_end(json: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &json[end.min(json.len())..]) {
        end += found;
        if json[end] == b'"' {
            return end + 1;
        }
        end += 2;
    }
    json.len()
}

fn check_number(number: &[u8]) -> Result<(), Broken> {
    // Without an exponent it takes more than 308 digits to leave the range of a double.
    if number.len() <= 300 && !number.iter().any(|b| matches!(b, b'e' | b'E')) {
        return Ok(());
    }
    let parsed = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok());
    if parsed.is_some_and(f64::is_finite) { Ok(()) } else { Err(Broken::Number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::empty("{}")]
    #[case::escaped_quotes(r#"{"a\"[[[":"\\"}"#)]
    #[case::large_but_finite("1e308")]
    #[case::brackets_in_text(&format!("\"{}\"", "[".repeat(500)))]
    #[case::at_the_limit(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)))]
    fn accepts(#[case] json: &str) {
        check(json, "payload", 4_096).unwrap();
    }

    #[rstest]
    #[case::too_deep(&format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1)), Code::JsonTooDeep)]
    #[case::beyond_a_double(r#"{"a":1e400}"#, Code::ValidationFailed)]
    #[case::many_digits(&"9".repeat(400), Code::ValidationFailed)]
    #[case::nul(r#""\u0000""#, Code::InvalidText)]
    #[case::lone_surrogate(r#"["\ud800"]"#, Code::InvalidText)]
    #[case::too_large(&format!("\"{}\"", "a".repeat(5_000)), Code::PayloadTooLarge)]
    fn refuses(#[case] json: &str, #[case] code: Code) {
        let error = check(json, "payload", 4_096).unwrap_err();
        assert_eq!(error.code, code);
        assert_eq!(error.fields[0].pointer, "/payload");
    }
}
