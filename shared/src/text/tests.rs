//! The scanner against a model: what it refuses is what decoding says cannot be stored.

use super::check_json_text;
use proptest::prelude::*;
use rstest::rstest;

#[rstest]
#[case::nul(r#"{"a":"x\u0000y"}"#)]
#[case::nul_after_escaped_backslash(r#"{"a":"\\\u0000"}"#)]
#[case::lone_high(r#""\ud800""#)]
#[case::lone_low(r#""\uDC00""#)]
#[case::high_then_text(r#""\ud800x""#)]
#[case::high_then_high(r#""\ud83d\ud83d\ude00""#)]
#[case::in_a_key(r#"{"\u0000":1}"#)]
fn text_that_cannot_be_stored_is_refused(#[case] json: &str) {
    assert!(check_json_text(json.as_bytes()).is_err());
}

#[rstest]
#[case::plain(r#"{"a":"b"}"#)]
#[case::pair(r#""\ud83d\ude00""#)]
#[case::escaped_backslash_then_u0000(r#""\\u0000""#)]
#[case::other_escape(r#""\n\t\u0001""#)]
#[case::cut_short(r#""\u00"#)]
#[case::not_json("\\")]
fn other_text_passes(#[case] json: &str) {
    assert!(check_json_text(json.as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn agrees_with_the_parser_on_strings_of_escapes(units in prop::collection::vec(prop_oneof![Just(0u16), 0xD7F0u16..0xE010, any::<u16>()], 0..12)) {
        let json = format!("\"{}\"", units.iter().map(|u| format!("\\u{u:04x}")).collect::<String>());
        let storable = serde_json::from_str::<String>(&json).is_ok_and(|text| !text.contains('\0'));
        prop_assert_eq!(check_json_text(json.as_bytes()).is_ok(), storable);
    }
}
