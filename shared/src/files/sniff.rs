//! What a content is, by how it begins. What was said of it counts only among kinds of text, which do not differ in their first bytes.

/// How much of a content is looked at.
pub const HEAD_BYTES: usize = 8 << 10;

const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

/// Kinds of text that a caller may say it is, and the endings of names that say so.
const TEXTS: &[(&str, &[&str])] = &[
    ("text/csv", &["csv"]),
    ("application/json", &["json"]),
    ("application/geo+json", &["geojson"]),
    ("application/x-ndjson", &["ndjson", "jsonl"]),
    ("application/gpx+xml", &["gpx"]),
    ("text/xml", &["xml"]),
    ("text/markdown", &["md"]),
    ("text/html", &["html", "htm"]),
];

/// The type of a content that begins with `head`, is called `name`, and is said to be `told`.
pub fn content_type(head: &[u8], name: &str, told: Option<&str>) -> &'static str {
    let seen = infer::get(head).map(|kind| kind.mime_type());
    match seen {
        // Markup is found by a word at its beginning: there are closer names for it.
        Some("text/xml") => text_kind(name, told).filter(|kind| kind.ends_with("xml")).unwrap_or("text/xml"),
        Some("text/html") => "text/html",
        Some(seen) => seen,
        None if is_text(head) => text_kind(name, told).unwrap_or(TEXT),
        None => UNKNOWN,
    }
}

/// What it is said to be, else what its name says.
fn text_kind(name: &str, told: Option<&str>) -> Option<&'static str> {
    let told = told.map(|told| told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let by_word = TEXTS.iter().find(|(kind, _)| told.as_deref() == Some(*kind));
    by_word.or_else(|| TEXTS.iter().find(|(_, endings)| endings.contains(&ending.as_str()))).map(|(kind, _)| *kind)
}

/// Whether it is UTF-8 as far as it goes, without control characters but those of lines. Nothing is no text.
fn is_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character that was cut at the end is none that is wrong.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !whole.is_empty() && !whole.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::png(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.csv", Some("text/csv"), "image/png")]
    #[case::jpeg(b"\xff\xd8\xff\xe0\0\x10JFIF", "a", None, "image/jpeg")]
    #[case::archive(b"PK\x03\x04\x14\0", "holiday.jpg", Some("image/jpeg"), "application/zip")]
    #[case::csv_by_word(b"track,lat,lon\n", "points", Some("text/csv; charset=utf-8"), "text/csv")]
    #[case::csv_by_name(b"track,lat,lon\n", "points.CSV", Some("application/octet-stream"), "text/csv")]
    #[case::text_that_is_called_an_image(b"hello", "a.png", Some("image/png"), "text/plain")]
    #[case::gpx(b"<?xml version=\"1.0\"?><gpx/>", "a.gpx", None, "application/gpx+xml")]
    #[case::xml(b"<?xml version=\"1.0\"?><gpx/>", "a.csv", Some("text/csv"), "text/xml")]
    #[case::html(b"<!DOCTYPE html><script>", "a.csv", Some("text/csv"), "text/html")]
    #[case::cut_character(b"stra\xc3", "a", None, "text/plain")]
    #[case::bytes(b"\0\x01\x02\x03", "a.txt", Some("text/plain"), "application/octet-stream")]
    #[case::nothing(b"", "a.txt", Some("text/plain"), "application/octet-stream")]
    fn types(#[case] head: &[u8], #[case] name: &str, #[case] told: Option<&str>, #[case] is: &str) {
        assert_eq!(content_type(head, name, told), is);
    }
}
