//! What is wrong with JSON that was sent, in words for those who sent it: where it is, what must be there, and what was. The parser's own words
//! are of types and positions.

use crate::{Code, Error, Result};
use serde::Deserialize;
use serde_json::error::Category;

/// Longest piece of what was sent that is repeated, in bytes.
const REPEATED_MAX: usize = 60;

/// A broken rule of JSON's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// RFC 6901; empty where it is the whole, or not known.
    pub pointer: String,
    pub code: &'static str,
    /// What is to be said of the place: "must be there".
    pub detail: String,
}

impl Broken {
    /// What `error` says of `json`, in which it was found.
    pub fn new(error: &serde_json::Error, json: &[u8]) -> Self {
        let broken = Self::of_text(&without_position(error), error);
        if broken.code == NO_JSON {
            return broken;
        }
        let place = path_at(json, offset_of(error, json));
        match broken {
            // The field itself is where it ends, where the parser was at its name.
            Self { pointer, .. } if !pointer.is_empty() && place.ends_with(&pointer) => Self { pointer: place, ..broken },
            Self { ref pointer, .. } => Self { pointer: format!("{place}{pointer}"), ..broken },
        }
    }

    /// As a sentence without its end: "`/lat` must be a number".
    pub fn sentence(&self) -> String {
        if self.pointer.is_empty() { format!("it {}", self.detail) } else { format!("`{}` {}", self.pointer, self.detail) }
    }

    /// An error of a body or item that is called `what`.
    pub fn into_error(self, what: &str) -> Error {
        let code = if self.code == TOO_DEEP { Code::JsonTooDeep } else { Code::InvalidJson };
        let error = Error::new(code, format!("The {what} is not the JSON that was asked for: {}.", self.sentence()));
        if self.pointer.is_empty() { error } else { error.with_field(self.pointer, self.code, self.detail) }
    }

    fn of_text(text: &str, error: &serde_json::Error) -> Self {
        let at = |pointer: String, code, detail: String| Self { pointer, code, detail };
        let here = |code, detail: String| at(String::new(), code, detail);
        let field = |rest: &str| rest.split('`').next().map(|name| format!("/{}", escaped(name))).unwrap_or_default();
        if error.classify() == Category::Eof {
            return here(NO_JSON, "ends too early".to_owned());
        }
        if text.contains("recursion limit") {
            return here(TOO_DEEP, "is nested too deep".to_owned());
        }
        if error.is_syntax() {
            return here(NO_JSON, format!("is not well-formed: {text} at line {} column {}", error.line(), error.column()));
        }
        if let Some(rest) = text.strip_prefix("missing field `") {
            return at(field(rest), "required", "must be there".to_owned());
        }
        if let Some(rest) = text.strip_prefix("duplicate field `") {
            return at(field(rest), "duplicate", "is there twice".to_owned());
        }
        if let Some((name, known)) = text.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
            return at(field(name), "unknown_field", format!("is no field of it: {}", known.replacen("expected", "there is", 1)));
        }
        if let Some((name, known)) = text.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected ")) {
            return here("value", format!("must be {known}, not `{}`", cut(name)));
        }
        let mismatch = text.strip_prefix("invalid type: ").map(|rest| (rest, "type"));
        let mismatch = mismatch.or_else(|| text.strip_prefix("invalid value: ").map(|rest| (rest, "value")));
        match mismatch.and_then(|(rest, code)| rest.rsplit_once(", expected ").map(|(sent, wanted)| (sent, wanted, code))) {
            Some((sent, wanted, "type")) => here("type", format!("must be {}, not {}", wanted_in_words(wanted), sent_in_words(sent))),
            Some((sent, wanted, code)) => here(code, format!("must be {}, not {}", wanted_in_words(wanted), cut(sent))),
            None => here("value", format!("{NOT_TAKEN}{}", cut(text))),
        }
    }
}

const TOO_DEEP: &str = "too_deep";
const NO_JSON: &str = "json";
/// Before what a type of ours says of itself.
const NOT_TAKEN: &str = "is not taken: ";

/// What is wrong, as a sentence without its end, where the JSON itself is gone; what a type of ours says is such a sentence.
pub(crate) fn sentence(error: &serde_json::Error) -> String {
    let text = without_position(error);
    let broken = Broken::of_text(&text, error);
    if broken.detail.starts_with(NOT_TAKEN) { text } else { broken.sentence() }
}

/// Reads a JSON object that stands at `at` in a body.
pub(crate) fn parse_at<'a, T: Deserialize<'a>>(json: &'a str, at: &str) -> Result<T> {
    // A derived `Deserialize` would take a list as the fields in their order.
    if !json.starts_with('{') {
        return Err(Error::invalid(at, "object", "must be an object"));
    }
    serde_json::from_str(json).map_err(|error| {
        let broken = Broken::new(&error, json.as_bytes());
        Error::invalid(format!("{at}{}", broken.pointer), broken.code, broken.detail)
    })
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).map(str::to_owned).unwrap_or(text)
}

fn wanted_in_words(wanted: &str) -> &str {
    match wanted {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "string" | "str" | "a borrowed string" | "variant identifier" => "a string",
        "a boolean" | "bool" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "an object",
        wanted if wanted.starts_with("struct ") => "an object",
        wanted if wanted.contains("RFC3339") => "a time of RFC 3339",
        wanted => wanted,
    }
}

fn sent_in_words(sent: &str) -> &str {
    match sent.split_whitespace().next().unwrap_or_default() {
        "map" => "an object",
        "sequence" => "a list",
        "string" => "a string",
        "integer" | "floating" => "a number",
        "boolean" => "a boolean",
        _ => cut(sent),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REPEATED_MAX)]
}

/// Bytes of `json` that were read when the error was found.
fn offset_of(error: &serde_json::Error, json: &[u8]) -> usize {
    let Some(lines_before) = error.line().checked_sub(1) else { return 0 };
    let mut line_starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', json).map(|end| end + 1));
    (line_starts.nth(lines_before).unwrap_or(0) + error.column()).min(json.len())
}

/// A list or object that is not at its end.
enum Level {
    List(usize),
    /// The name of the value that is being read, or was last.
    Object {
        name: Option<String>,
        is_name_next: bool,
    },
}

/// Levels that are followed: as deep as the parser goes where it keeps what it reads. Bodies may have brackets by the million.
const LEVELS_MAX: usize = 128;

/// Where `json` is after so many bytes, as a pointer; empty, as for the whole, below [`LEVELS_MAX`].
fn path_at(json: &[u8], offset: usize) -> String {
    let (mut levels, mut at): (Vec<Level>, usize) = (Vec::new(), 0);
    let mut n_below = 0_usize;
    while at < offset {
        match json[at] {
            b'{' | b'[' if levels.len() == LEVELS_MAX => n_below += 1,
            b'}' | b']' if n_below > 0 => n_below -= 1,
            b'"' => {
                let end = string_end(json, at);
                if n_below == 0
                    && let Some(Level::Object { name, is_name_next: is_name_next @ true }) = levels.last_mut()
                {
                    *name = serde_json::from_slice(&json[at..end]).ok();
                    *is_name_next = false;
                }
                at = end - 1;
            }
            _ if n_below > 0 => {}
            b'{' => levels.push(Level::Object { name: None, is_name_next: true }),
            b'[' => levels.push(Level::List(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::List(index)) => *index += 1,
                Some(Level::Object { name, is_name_next }) => (*name, *is_name_next) = (None, true),
                None => {}
            },
            _ => {}
        }
        at += 1;
    }
    if n_below > 0 {
        return String::new();
    }
    let steps = levels.iter().filter_map(|level| match level {
        Level::List(index) => Some(format!("/{index}")),
        Level::Object { name, .. } => name.as_deref().map(|name| format!("/{}", escaped(name))),
    });
    steps.collect()
}

/// Behind the string that begins at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// A name in a pointer.
fn escaped(name: &str) -> String {
    cut(name).replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::proptest;
    use rstest::rstest;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Outer {
        lat: f64,
        n: Option<u8>,
        #[serde(default)]
        items: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Inner {
        id: uuid::Uuid,
        #[serde(rename = "a/b")]
        slash: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Csv,
        Html,
    }

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    #[rstest]
    #[case(r#"{}"#, "`/lat` must be there")]
    #[case("{\n\n }", "`/lat` must be there")]
    #[case(r#"{"lat": "1"}"#, "`/lat` must be a number, not a string")]
    #[case(r#"{"lat": {"x": 1}}"#, "`/lat` must be a number, not an object")]
    #[case(r#"{"lat": null}"#, "`/lat` must be a number, not null")]
    #[case(r#"{"lat": 1, "lat": 2}"#, "`/lat` is there twice")]
    #[case(r#"{"lat": 1, "n": -1}"#, "`/n` must be a whole number that is not negative, not integer `-1`")]
    #[case(r#"{"colour": 1}"#, "`/colour` is no field of it: there is one of `lat`, `n`, `items`")]
    #[case(r#"{"lat": 1, "items": 7}"#, "`/items` must be a list, not a number")]
    #[case(r#"{"lat": 1, "items": [{"id": "ID"}, {"id": "x"}]}"#, "`/items/1/id` is not taken: UUID parsing failed")]
    #[case(r#"{"items": [{"id": "ID"}, {}], "lat": 1}"#, "`/items/1/id` must be there")]
    #[case(r#"{"items": [{"id": "ID", "a/b": "xml"}]}"#, "`/items/0/a~1b` must be `csv` or `html`, not `xml`")]
    #[case(r#"{"items": [{"id": "ID", "b": 1}]}"#, "`/items/0/b` is no field of it")]
    #[case(r#""text""#, "it must be an object, not a string")]
    #[case(r#"{"lat": 1"#, "it ends too early")]
    #[case(r#"{"lat": NaN}"#, "it is not well-formed: expected value at line 1 column 9")]
    #[case(r#"{"lat": 1,}"#, "it is not well-formed: trailing comma at line 1 column 11")]
    fn what_is_wrong_is_told_in_words_and_where(#[case] json: &str, #[case] told: &str) {
        let json = json.replace("ID", ID);
        let error = serde_json::from_str::<Outer>(&json).unwrap_err();
        let sentence = Broken::new(&error, json.as_bytes()).sentence();
        assert!(sentence.starts_with(told), "{sentence}; {error}");
    }

    #[test]
    fn only_an_object_is_read_as_one() {
        assert_eq!(parse_at::<Outer>("[1, 2]", "/payload").unwrap_err().fields[0].pointer, "/payload");
        let fields = parse_at::<Outer>(r#"{"lat": []}"#, "/payload").unwrap_err().fields;
        assert_eq!((fields[0].pointer.as_str(), fields[0].code.as_str()), ("/payload/lat", "type"));
    }

    #[test]
    fn a_place_is_told_as_deep_as_the_parser_goes_and_brackets_by_the_million_are_counted_alone() {
        let at_depth = |depth: usize| path_at("[".repeat(depth).as_bytes(), depth);
        assert_eq!((at_depth(LEVELS_MAX), at_depth(LEVELS_MAX + 1)), ("/0".repeat(LEVELS_MAX), String::new()));
        let deep = format!("[1, {}\"]\"{}, 2", "[".repeat(1_000), "]".repeat(1_000));
        assert_eq!(path_at(deep.as_bytes(), deep.len()), "/2", "what is behind is told again");
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_the_telling(json in r#"[{}\[\]",:\\a1\n ]{0,30}"#) {
            if let Err(error) = serde_json::from_str::<Outer>(&json) {
                Broken::new(&error, json.as_bytes()).sentence();
            }
        }
    }
}
