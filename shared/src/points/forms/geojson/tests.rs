//! What is read of GeoJSON, and what is refused of it.

use super::*;
use crate::points::Point;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::BufReader;

const TRACK: TrackId = TrackId(uuid::Uuid::from_u128(7));
const TRACK_ID: &str = "00000000-0000-0000-0000-000000000007";

fn read_from(source: impl Read) -> Result<Vec<Result<Point<'static>>>> {
    let mut found = Vec::new();
    let mut sink = |point: Result<Point<'_>>| {
        found.push(point.map(Point::into_owned));
        Ok(())
    };
    each(source, Some(TRACK), &mut sink)?;
    Ok(found)
}

fn read(json: &Value) -> Result<Vec<Result<Point<'static>>>> {
    // In pieces, as files come.
    read_from(BufReader::with_capacity(7, json.to_string().as_bytes()))
}

fn collection(features: &[Value]) -> Value {
    json!({"bbox": [1, 2, 3, 4], "type": "FeatureCollection", "features": features, "crs": {"type": "name"}})
}

fn feature(geometry: &Value, properties: &Value) -> Value {
    json!({"type": "Feature", "id": 1, "geometry": geometry, "properties": properties})
}

fn point(properties: &Value) -> Value {
    feature(&json!({"type": "Point", "coordinates": [13.4, 52.5, 34.0]}), properties)
}

#[test]
fn points_have_the_fields_that_their_properties_name() {
    let attributes = json!({"a": [1]});
    let all = json!({"recorded_at": "2026-11-21T10:00:00Z", "track_id": TRACK_ID, "speed_mps": 8.5, "heading_deg": 90, "accuracy_m": 3,
        "altitude_m": 40.5, "attributes": attributes, "colour": "red"});
    let found = read(&collection(&[point(&all), point(&json!({"time": "2026-11-21T10:00:01Z"}))])).unwrap();
    let [Ok(first), Ok(second)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((first.track_id.to_string().as_str(), first.lat, first.lon), (TRACK_ID, 52.5, 13.4));
    assert_eq!((first.altitude_m, first.speed_mps, first.heading_deg, first.accuracy_m), (Some(40.5), Some(8.5), Some(90.0), Some(3.0)));
    assert_eq!(first.attributes.as_deref(), Some(r#"{"a":[1]}"#));
    assert_eq!((second.track_id, second.altitude_m, second.recorded_at_us), (TRACK, Some(34.0), first.recorded_at_us + 1_000_000));
}

#[test]
fn a_mark_in_front_is_no_part_of_it() {
    let json = format!("\u{feff}{}", collection(&[point(&json!({"time": "2026-11-21T10:00:00Z"}))]));
    assert_eq!(read_from(BufReader::with_capacity(2, json.as_bytes())).unwrap().len(), 1);
    assert_eq!(read_from("\u{feff}\u{feff}{}".as_bytes()).unwrap_err().code, Code::InvalidJson);
}

#[test]
fn lines_are_a_point_for_each_place() {
    let times = ["2026-11-21T10:00:00Z", "2026-11-21T10:00:01Z", "2026-11-21T10:00:02Z"];
    let line = feature(&json!({"type": "LineString", "coordinates": [[1, 2], [3, 4, null], [5, 95]]}), &json!({"coordTimes": times}));
    let lines = feature(
        &json!({"type": "MultiLineString", "coordinates": [[[1, 2, 3, 4]], [[3, 4], [5, 6], [7, 8]]]}),
        &json!({"coordinateProperties": {"times": [[times[0]], [times[1], times[2]]]}}),
    );
    let found = read(&collection(&[line, lines])).unwrap();
    let told: Vec<String> = found
        .iter()
        .map(|point| match point {
            Ok(point) => format!("{} {} {:?}", point.lon, point.lat, point.altitude_m),
            Err(error) => error.fields[0].pointer.clone(),
        })
        .collect();
    assert_eq!(told, ["1 2 None", "3 4 None", "/lat", "1 2 Some(3.0)", "3 4 None", "5 6 None", "/recorded_at"]);
}

#[test]
fn a_feature_alone_will_do_whatever_comes_first() {
    let time = "2026-11-21T10:00:00Z";
    let json = format!(r#"{{"properties":{{"time":"{time}"}},"geometry":{{"coordinates":[1,2],"type":"Point"}},"type":"Feature"}}"#);
    assert!(matches!(&read_from(json.as_bytes()).unwrap()[..], [Ok(point)] if point.lat == 2.0));
}

#[rstest]
#[case::no_feature(json!(7))]
#[case::of_another_type(json!({"type": "Thing"}))]
#[case::without_geometry(json!({"type": "Feature", "geometry": null, "properties": null}))]
#[case::area(feature(&json!({"type": "Polygon", "coordinates": [[[1, 2]]]}), &json!({})))]
#[case::without_times(feature(&json!({"type": "LineString", "coordinates": [[1, 2]]}), &json!({})))]
#[case::half_a_position(feature(&json!({"type": "Point", "coordinates": [1]}), &json!({"time": "2026-11-21T10:00:00Z"})))]
#[case::text_for_a_number(feature(&json!({"type": "Point", "coordinates": ["1", 2]}), &json!({})))]
#[case::no_uuid(point(&json!({"track_id": "7", "time": "2026-11-21T10:00:00Z"})))]
#[case::nested_too_deep(feature(&json!({"type": "LineString", "coordinates": [[1, 2]]}), &json!({"coordTimes": [[["x"]]]})))]
fn a_feature_that_is_none_is_refused_by_itself(#[case] broken: Value) {
    let good = point(&json!({"time": "2026-11-21T10:00:00Z"}));
    let found = read(&collection(&[good.clone(), broken, good])).unwrap();
    assert!(matches!(&found[..], [Ok(_), Err(_), Ok(_)]), "{found:?}");
}

#[rstest]
#[case::nothing("")]
#[case::list("[]")]
#[case::other_type(r#"{"type":"Topology","features":[]}"#)]
#[case::no_features(r#"{"type":"FeatureCollection"}"#)]
#[case::features_no_list(r#"{"type":"FeatureCollection","features":{}}"#)]
#[case::cut_off(r#"{"type":"FeatureCollection","features":[{"type""#)]
#[case::properties_twice(r#"{"type":"Feature","properties":{},"geometry":null,"properties":{}}"#)]
#[case::more_behind(r#"{"type":"FeatureCollection","features":[]} {}"#)]
#[case::no_json("lat,lon\n1,2\n")]
#[case::xml("<gpx/>")]
#[case::lines("{\"lat\":1}\n{\"lat\":2}")]
fn what_is_no_geojson_is_refused(#[case] text: &str) {
    assert_eq!(read_from(text.as_bytes()).unwrap_err().code, Code::InvalidJson);
}

/// A beginning, and then the same byte again and again.
struct Endless {
    begin: &'static [u8],
    byte: u8,
    n_given: usize,
}

const SHORT: usize = 100 << 10;

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        assert!(self.n_given < 2 * SHORT, "the reading should have ended");
        let mut n_bytes = self.begin.read(buffer)?;
        if n_bytes == 0 {
            buffer.fill(self.byte);
            n_bytes = buffer.len();
        }
        self.n_given += n_bytes;
        Ok(n_bytes)
    }
}

#[rstest]
#[case::text(br#"{"type":""#, b'x')]
#[case::nesting(br#"{"features":["#, b'[')]
#[case::other_members(br#"{"a":["#, b'[')]
#[case::spaces(b"{", b' ')]
#[case::one_feature(br#"{"features":[{"coordinates":["#, b'1')]
fn what_never_ends_ends_the_reading(#[case] begin: &'static [u8], #[case] byte: u8) {
    let endless = BufReader::new(Endless { begin, byte, n_given: 0 });
    let error = each_within(SHORT, endless, None, &mut |_: Result<Point<'_>>| Ok(())).unwrap_err();
    assert!(error.code == Code::InvalidJson && error.detail.contains("longer than"), "{error}");
}

#[test]
fn what_the_sink_fails_with_is_the_error() {
    let json = collection(&[point(&json!({})), point(&json!({}))]).to_string();
    let mut n_told = 0;
    let mut sink = |_: Result<Point<'_>>| {
        n_told += 1;
        Err(Error::new(Code::BodyTooLarge, "enough"))
    };
    assert_eq!(each(json.as_bytes(), None, &mut sink).unwrap_err().code, Code::BodyTooLarge);
    assert_eq!(n_told, 1);
}
