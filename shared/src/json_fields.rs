//! Fields read as JSON Schema reads them, where serde alone is stricter or laxer: for `deserialize_with` on optional
//! fields, with `default` beside it.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

/// Beyond this a double does not hold every whole number.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A whole number however it is written: `42.0` and `4.2e1` are 42. Some clients write every number with a point.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|whole| whole.0))
}

/// The same where it must be there.
pub(crate) fn required_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Whole::deserialize(deserializer)?.0)
}

/// An object. A derived `Deserialize` alone also takes a list, as the fields in their order.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(WholeVisitor).map(Self)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::custom("number out of range"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<i64, E> {
        if value.fract() == 0.0 && value.abs() <= EXACT_MAX { Ok(value as i64) } else { Err(E::custom("not a whole number in range")) }
    }
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::{object, whole};
    use rstest::rstest;
    use serde::Deserialize;
    use serde_json::Deserializer;

    #[rstest]
    #[case::plain("42", Some(42))]
    #[case::with_a_point("42.0", Some(42))]
    #[case::with_an_exponent("4.2e1", Some(42))]
    #[case::negative("-1.0", Some(-1))]
    #[case::null("null", None)]
    fn whole_numbers_are_read_however_they_are_written(#[case] json: &str, #[case] value: Option<i64>) {
        assert_eq!(whole(&mut Deserializer::from_str(json)).unwrap(), value);
    }

    #[rstest]
    #[case::fraction("0.5")]
    #[case::beyond_i64("9223372036854775808")]
    #[case::beyond_a_double("1e300")]
    #[case::text("\"42\"")]
    #[case::truth("true")]
    fn nothing_else_is_a_whole_number(#[case] json: &str) {
        assert!(whole(&mut Deserializer::from_str(json)).is_err());
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Point {
        x: i32,
    }

    #[rstest]
    #[case::object(r#"{"x":1}"#, Some(Some(Point { x: 1 })))]
    #[case::null("null", Some(None))]
    #[case::list("[1]", None)]
    #[case::unknown_field(r#"{"x":1,"y":2}"#, None)]
    fn only_an_object_is_an_object(#[case] json: &str, #[case] read: Option<Option<Point>>) {
        assert_eq!(object::<Point, _>(&mut Deserializer::from_str(json)).ok(), read);
    }
}
