//! Points in JSON: one object, `{"points": […]}`, or an object per line.

use super::{Sink, without_mark};
use crate::{
    Code, Error, Result,
    ids::TrackId,
    json_words::Broken,
    points::{Point, RawPoint},
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a JSON body holds.
#[derive(Debug)]
pub enum Body<'a> {
    One(&'a [u8]),
    Many(Vec<&'a RawValue>),
}

/// Items are kept as they are at first: one that is wrong must not take the others with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `points`")]
struct Envelope<'a> {
    #[serde(borrow)]
    points: Vec<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// Tells the two forms apart by the first name in the object.
    pub fn parse(json: &'a [u8]) -> Result<Self> {
        let json = without_mark(json);
        let Some(inside) = json.trim_ascii_start().strip_prefix(b"{") else {
            return Err(Error::new(Code::InvalidJson, "The body is not the JSON that was asked for: it must be an object."));
        };
        if !inside.trim_ascii_start().starts_with(b"\"points\"") {
            return Ok(Self::One(json));
        }
        let envelope: Envelope<'_> = serde_json::from_slice(json).map_err(|error| Broken::new(&error, json).into_error("body"))?;
        Ok(Self::Many(envelope.points))
    }
}

/// Each of `items`.
pub fn each(items: &[&RawValue], of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    items.iter().try_for_each(|item| sink.take(point(item.get().as_bytes(), of_track)))
}

/// One point; also that of a line of NDJSON.
pub fn point(json: &[u8], of_track: Option<TrackId>) -> Result<Point<'_>> {
    // A derived `Deserialize` would take a list as the fields in their order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Error::new(Code::InvalidJson, "The point is not the JSON that was asked for: it must be an object."));
    }
    let raw: RawPoint<'_> = serde_json::from_slice(json).map_err(|error| Broken::new(&error, json).into_error("point"))?;
    raw.check(of_track)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn one_object_and_many_are_told_apart() {
        assert!(matches!(Body::parse(br#" {"lat": 1} "#), Ok(Body::One(_))));
        assert!(matches!(Body::parse("\u{feff} {\"lat\": 1}".as_bytes()), Ok(Body::One(json)) if json.starts_with(b" {")));
        assert!(matches!(Body::parse("\u{feff}{\"points\": []}".as_bytes()), Ok(Body::Many(_))));
        assert!(matches!(Body::parse(br#"{ "points" : [{}, 1, "x"]}"#), Ok(Body::Many(items)) if items.len() == 3));
        for broken in ["[1]", "", "{\"points\": [1, 2}", "{\"points\": [], \"more\": 1}", "{\"points\": 7}"] {
            assert!(Body::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[rstest]
    #[case::list(r#"["a"]"#)]
    #[case::unknown_field(r#"{"lat":1,"colour":"red"}"#)]
    #[case::not_a_number(r#"{"lat":NaN}"#)]
    #[case::beyond_a_double(r#"{"lat":1e999}"#)]
    #[case::text_for_a_number(r#"{"lat":"1"}"#)]
    #[case::half(r#"{"lat":1"#)]
    #[case::no_utf8("{\"recorded_at\":\"\u{80}\"")]
    fn what_is_no_point_is_refused_by_itself(#[case] json: &str) {
        assert_eq!(point(json.as_bytes(), None).unwrap_err().code, Code::InvalidJson);
    }
}
