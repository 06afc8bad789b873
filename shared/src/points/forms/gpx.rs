//! Points in GPX: the `<trkpt>` of all tracks and segments in it, as of one track of ours. Routes and waypoints are passed over, since they have
//! no time as a rule.
//!
//! What declares entities is refused, and none but the five of XML are known; so nothing in it grows when it is read.

use super::{
    Sink, invalid,
    meter::{Meter, Metered},
};
use crate::{
    Code, Error, Result,
    ids::TrackId,
    points::{RawPoint, check},
};
use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_xml_entity,
    events::{BytesRef, BytesStart, Event},
};
use std::io::BufRead;

/// Deepest nesting; real files have about eight levels.
const DEPTH_MAX: usize = 32;
/// Longest text that is looked at: times and numbers are shorter.
const TEXT_MAX: usize = 100;

/// Longest tag, text or comment; whole extensions of other programs are shorter.
const EVENT_MAX: usize = 1 << 20;
/// Attributes of a point: it has two.
const ATTRIBUTES_MAX: usize = 32;

/// A point on its way.
#[derive(Default)]
struct Draft {
    lat: Option<String>,
    lon: Option<String>,
    time: Option<String>,
    elevation: Option<String>,
    speed: Option<String>,
    course: Option<String>,
}

/// Each track point, of the track that the request names.
pub fn each(source: impl BufRead, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    let meter = Meter::new(EVENT_MAX);
    let mut reader = Reader::from_reader(Metered::new(source, &meter));
    let (mut buffer, mut place, mut text) = (Vec::new(), Place::Before, Text::default());
    let mut draft: Option<Draft> = None;
    loop {
        buffer.clear();
        meter.reset();
        let event = reader.read_event_into(&mut buffer);
        // Also where the source gave all of it at once.
        if let Some(why) = meter.why() {
            return Err(broken(why));
        }
        match event.map_err(|error| broken(error.to_string()))? {
            Event::Start(element) => {
                place = place.enter(&element)?;
                text.clear();
                if element.local_name().as_ref() == "trkpt" {
                    draft = Some(Draft::begin(&element)?);
                }
            }
            Event::Empty(element) => {
                place = place.enter(&element)?.leave();
                if element.local_name().as_ref() == "trkpt" {
                    sink_draft(Draft::begin(&element)?, of_track, sink)?;
                }
            }
            Event::End(element) => {
                place = place.leave();
                let name = element.local_name();
                if name.as_ref() == "trkpt" {
                    if let Some(draft) = draft.take() {
                        sink_draft(draft, of_track, sink)?;
                    }
                } else if let Some(draft) = &mut draft {
                    draft.set(name.as_ref(), &text);
                }
                text.clear();
            }
            Event::Text(part) if part.trim().is_empty() => text.push(&part),
            Event::Text(part) => text.push(place.text(&part)?),
            Event::CData(part) => text.push(place.text(&part)?),
            Event::GeneralRef(reference) => text.push(place.text(&resolved(&reference)?)?),
            Event::DocType(_) => return Err(broken("a document type is not allowed".to_owned())),
            Event::Eof => return place.end(),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// Where in the document something is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Before,
    /// So many levels deep.
    Inside(usize),
    Behind,
}

impl Place {
    /// Anything but one `<gpx>` at the outermost level is an error.
    fn enter(self, element: &BytesStart<'_>) -> Result<Self> {
        match self {
            Self::Before if element.local_name().as_ref() == "gpx" => Ok(Self::Inside(1)),
            Self::Before => Err(broken("its first element must be `gpx`".to_owned())),
            Self::Inside(DEPTH_MAX) => Err(broken(format!("it is nested deeper than {DEPTH_MAX} levels"))),
            Self::Inside(depth) => Ok(Self::Inside(depth + 1)),
            Self::Behind => Err(behind()),
        }
    }

    fn leave(self) -> Self {
        match self {
            Self::Inside(depth) if depth > 1 => Self::Inside(depth - 1),
            Self::Before | Self::Inside(_) | Self::Behind => Self::Behind,
        }
    }

    /// `text`, where there may be some.
    fn text(self, text: &str) -> Result<&str> {
        match self {
            Self::Before => Err(broken("its first element must be `gpx`".to_owned())),
            Self::Inside(_) => Ok(text),
            Self::Behind => Err(behind()),
        }
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Before => Err(broken("there is nothing in it".to_owned())),
            Self::Inside(_) => Err(broken("it ends too early".to_owned())),
            Self::Behind => Ok(()),
        }
    }
}

fn behind() -> Error {
    broken("there is more behind the end of `gpx`".to_owned())
}

/// What stands for a character: its number, or one of the five names of XML.
fn resolved(reference: &BytesRef<'_>) -> Result<String> {
    let by_number = reference.resolve_char_ref().map_err(|error| broken(error.to_string()))?;
    let by_name = || resolve_xml_entity(reference).map(str::to_owned);
    by_number.map(String::from).or_else(by_name).ok_or_else(|| broken(format!("there is no entity `{}`", reference.escape_debug())))
}

/// The text of an element, as far as it is looked at.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn push(&mut self, part: &str) {
        let rest = TEXT_MAX.saturating_sub(self.0.len());
        self.0.push_str(&part[..part.floor_char_boundary(rest)]);
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Draft {
    fn begin(element: &BytesStart<'_>) -> Result<Self> {
        let mut draft = Self::default();
        for (n_before, attribute) in element.attributes().enumerate() {
            // Each is compared with all before it.
            if n_before == ATTRIBUTES_MAX {
                return Err(broken(format!("a point has more than {ATTRIBUTES_MAX} attributes")));
            }
            let attribute = attribute.map_err(|error| broken(error.to_string()))?;
            let field = match attribute.key.as_ref() {
                "lat" => &mut draft.lat,
                "lon" => &mut draft.lon,
                _ => continue,
            };
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| broken(error.to_string()))?;
            *field = Some(value.into_owned());
        }
        Ok(draft)
    }

    /// Speed and course stand in the point itself or in one of the known extensions.
    fn set(&mut self, name: &str, text: &Text) {
        let field = match name {
            "time" => &mut self.time,
            "ele" => &mut self.elevation,
            "speed" => &mut self.speed,
            "course" => &mut self.course,
            _ => return,
        };
        field.get_or_insert_with(|| text.0.trim().to_owned());
    }
}

fn sink_draft(draft: Draft, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    let number = |name: &str, text: &Option<String>| {
        let parsed = text.as_ref().filter(|text| !text.is_empty()).map(|text| text.trim().parse::<f64>());
        parsed.transpose().map_err(|_| invalid(name, "number", "is not a number"))
    };
    let raw = || -> Result<RawPoint<'_>> {
        Ok(RawPoint {
            recorded_at: draft.time.as_deref().map(|time| check::Text(time.into())),
            lat: number("lat", &draft.lat)?,
            lon: number("lon", &draft.lon)?,
            altitude_m: number("altitude_m", &draft.elevation)?,
            speed_mps: number("speed_mps", &draft.speed)?,
            heading_deg: number("heading_deg", &draft.course)?,
            ..RawPoint::default()
        })
    };
    sink.take(raw().and_then(|raw| raw.check(of_track)))
}

fn broken(why: String) -> Error {
    Error::new(Code::InvalidGpx, format!("The body is not the GPX that was asked for: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Point;
    use rstest::rstest;

    const TRACK: TrackId = TrackId(uuid::Uuid::from_u128(7));

    fn read(gpx: &str) -> Result<Vec<Result<Point<'static>>>> {
        let mut found = Vec::new();
        let mut sink = |point: Result<Point<'_>>| {
            found.push(point.map(|point| Point { attributes: None, ..point }));
            Ok(())
        };
        each(gpx.as_bytes(), Some(TRACK), &mut sink)?;
        Ok(found)
    }

    #[test]
    fn track_points_of_all_segments_are_read() {
        let gpx = r#"<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="1" lon="1"/>
            <trk><name>A &amp; B</name><trkseg><trkpt lat="52.5" lon="13.4"><ele>34.5</ele><time>2026-11-21T10:00:00Z</time>
            <extensions><gpxtpx:TrackPointExtension><gpxtpx:speed>8.5</gpxtpx:speed><gpxtpx:course>90</gpxtpx:course></gpxtpx:TrackPointExtension></extensions>
            </trkpt><trkpt lat="91" lon="13"><time>2026-11-21T10:00:01Z</time></trkpt></trkseg>
            <trkseg><trkpt lat="52.6" lon="13.5"/><trkpt lat="x" lon="1"><time>2026-11-21T10:00:02Z</time></trkpt></trkseg></trk></gpx>"#;
        let points = read(gpx).unwrap();
        let first = points[0].as_ref().unwrap();
        assert_eq!((first.lat, first.altitude_m, first.speed_mps, first.heading_deg), (52.5, Some(34.5), Some(8.5), Some(90.0)));
        let pointers = points[1..].iter().map(|point| point.as_ref().unwrap_err().fields[0].pointer.as_str());
        assert_eq!(pointers.collect::<Vec<_>>(), ["/lat", "/recorded_at", "/lat"]);
    }

    #[rstest]
    #[case::empty("<gpx/>")]
    #[case::with_nothing_in_it("<?xml version=\"1.0\"?>\n<gpx>\n</gpx>\n<!-- the end -->\n")]
    #[case::with_a_mark("\u{feff}<gpx/>")]
    fn a_document_without_points_has_none(#[case] gpx: &str) {
        assert!(read(gpx).unwrap().is_empty());
    }

    #[rstest]
    #[case::plain("2026-11-21T10:00:00Z")]
    #[case::cdata("<![CDATA[2026-11-21T10:00:00Z]]>")]
    #[case::both(" 2026-11-21<![CDATA[T10:00]]>:00Z ")]
    #[case::numbers("2026&#45;11&#x2d;21T10:00:00Z")]
    #[case::comment("2026-11-21<!-- at -->T10:00:00Z")]
    fn a_time_is_text_however_it_is_written(#[case] time: &str) {
        let gpx = format!(r#"<gpx><trk><trkseg><trkpt lat="1" lon="1"><ele>1&#48;0</ele><time>{time}</time></trkpt></trkseg></trk></gpx>"#);
        let points = read(&gpx).unwrap();
        let point = points[0].as_ref().unwrap();
        assert_eq!((point.recorded_at_us, point.altitude_m), (1_795_255_200_000_000, Some(100.0)));
    }

    #[rstest]
    #[case::bomb(r#"<!DOCTYPE gpx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><gpx><trk><name>&b;</name></trk></gpx>"#)]
    #[case::outside(r#"<!DOCTYPE gpx SYSTEM "file:///etc/passwd"><gpx/>"#)]
    #[case::deep(&format!("<gpx>{}{}</gpx>", "<a>".repeat(40), "</a>".repeat(40)))]
    #[case::unknown_entity(r#"<gpx><trk><trkseg><trkpt lat="&b;" lon="1"></trkpt></trkseg></trk></gpx>"#)]
    #[case::endless_text(&format!("<gpx><trk><name>{}</name></trk></gpx>", "x".repeat(2 << 20)))]
    #[case::attributes(&format!("<gpx><trkpt lat=\"1\" lon=\"1\" {}/></gpx>", (0..100).map(|n| format!("a{n}=\"\" ")).collect::<String>()))]
    #[case::not_closed("<gpx><trk>")]
    #[case::crossed("<gpx><trk></gpx></trk>")]
    #[case::another("<kml></kml>")]
    #[case::nothing("")]
    #[case::no_xml("lat,lon")]
    #[case::text_before("lat,lon <gpx/>")]
    #[case::text_behind("<gpx></gpx> and more")]
    #[case::cdata_behind("<gpx/><![CDATA[more]]>")]
    #[case::a_second_one("<gpx/><gpx/>")]
    #[case::unknown_name("<gpx><trk><name>&nbsp;</name></trk></gpx>")]
    fn what_is_no_gpx_is_refused(#[case] gpx: &str) {
        assert_eq!(read(gpx).unwrap_err().code, Code::InvalidGpx);
    }
}
