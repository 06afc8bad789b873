//! Points in GeoJSON (RFC 7946): a collection of features, gone through one by one, or a feature alone. A `Point` is a point with the fields
//! that its properties name as ours are named; `time` will do for `recorded_at`. A `LineString` or `MultiLineString` is a point for each
//! of its places, whose times are in `coordTimes`, or in `coordinateProperties.times`. Other geometries are refused one by one.
//!
//! A feature is read whole, and so has a size; the places of a line are not kept.

use super::{
    Sink, invalid,
    meter::{Meter, Metered},
    read_without_mark,
};
use crate::{
    Code, Error, Result,
    ids::TrackId,
    json_words::{self, Broken},
    points::{RawPoint, check::Text},
};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, io::Read};

/// Longest feature, and whatever stands beside the features.
const FEATURE_MAX: usize = 16 << 20;
/// Places of one feature: so many times are kept while it is read.
const PLACES_MAX: usize = 100_000;

/// Each point of each feature; `of_track` is the track of those whose properties name none.
pub fn each(source: impl Read, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    each_within(FEATURE_MAX, source, of_track, sink)
}

fn each_within(feature_max: usize, source: impl Read, of_track: Option<TrackId>, sink: &mut impl Sink) -> Result<()> {
    let meter = Meter::new(feature_max);
    let source = read_without_mark(Metered::new(source, &meter)).map_err(Error::internal)?;
    let mut reader = serde_json::Deserializer::from_reader(source);
    let mut taker = Taker { of_track, sink, failure: None };
    let outcome = reader.deserialize_map(Root { taker: &mut taker, meter: &meter }).and_then(|()| reader.end());
    match (taker.failure, outcome) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => {
            let why = meter.why().unwrap_or_else(|| json_words::sentence(&error));
            Err(Error::new(Code::InvalidJson, format!("The body is not the GeoJSON that was asked for: {why}.")))
        }
    }
}

/// Passes points on; what the sink fails with goes around serde, which has errors of its own.
struct Taker<'a, S> {
    of_track: Option<TrackId>,
    sink: &'a mut S,
    failure: Option<Error>,
}

impl<S: Sink> Taker<'_, S> {
    fn take<E: serde::de::Error>(&mut self, raw: Result<RawPoint<'_>>) -> Result<(), E> {
        let point = raw.and_then(|raw| raw.check(self.of_track));
        self.sink.take(point).map_err(|error| {
            self.failure = Some(error);
            E::custom("the reading was ended")
        })
    }

    /// All points of a feature. One that cannot be read is one refusal, also where points of it were good.
    fn take_feature<E: serde::de::Error>(&mut self, json: &RawValue) -> Result<(), E> {
        let told = match serde_json::from_str::<Feature<'_>>(json.get()) {
            // What is told of its coordinates is of a place within them.
            Ok(feature) => feature.tell(self).map_err(|error| json_words::sentence(&error)),
            Err(error) => Err(Broken::new(&error, json.get().as_bytes()).sentence()),
        };
        match (told, &self.failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(_)) => Err(E::custom("the reading was ended")),
            (Err(why), None) => self.take(Err(Error::new(Code::InvalidJson, format!("The feature is not what was asked for: {why}.")))),
        }
    }
}

/// The whole of it: a collection, or a feature alone.
struct Root<'t, 's, 'm, S> {
    taker: &'t mut Taker<'s, S>,
    meter: &'m Meter,
}

impl<'de, S: Sink> Visitor<'de> for Root<'_, '_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a `FeatureCollection` or a `Feature`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut kind, mut has_features): (Option<String>, bool) = (None, false);
        let mut alone: Vec<(&str, Box<RawValue>)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "type" => kind = Some(map.next_value()?),
                "features" => {
                    map.next_value_seed(Features { taker: &mut *self.taker, meter: self.meter })?;
                    has_features = true;
                }
                // Once each, for they are held.
                "geometry" | "properties" if alone.iter().any(|(known, _)| *known == name) => {
                    return Err(A::Error::custom(format!("it has `{name}` twice")));
                }
                "geometry" => alone.push(("geometry", map.next_value()?)),
                "properties" => alone.push(("properties", map.next_value()?)),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            self.meter.reset();
        }
        match kind.as_deref() {
            Some("FeatureCollection") if has_features => Ok(()),
            Some("Feature") if !has_features => {
                let fields: String = alone.iter().map(|(name, json)| format!(",\"{name}\":{json}")).collect();
                let feature = RawValue::from_string(format!("{{\"type\":\"Feature\"{fields}}}")).map_err(A::Error::custom)?;
                self.taker.take_feature(&feature)
            }
            _ => Err(A::Error::custom("its `type` must be `FeatureCollection`, with `features`, or `Feature`")),
        }
    }
}

struct Features<'t, 's, 'm, S> {
    taker: &'t mut Taker<'s, S>,
    meter: &'m Meter,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Features<'_, '_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Features<'_, '_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of features")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.meter.reset();
        while let Some(feature) = seq.next_element::<Box<RawValue>>()? {
            self.taker.take_feature(&feature)?;
            self.meter.reset();
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Feature<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    geometry: Option<Geometry<'a>>,
    #[serde(borrow)]
    properties: Option<Properties<'a>>,
}

#[derive(Deserialize)]
struct Geometry<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    coordinates: Option<&'a RawValue>,
}

/// Those that mean something to us; programs put all kinds of things beside them.
#[derive(Default, Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    track_id: Option<Text<'a>>,
    #[serde(borrow)]
    recorded_at: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    altitude_m: Option<f64>,
    speed_mps: Option<f64>,
    heading_deg: Option<f64>,
    accuracy_m: Option<f64>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    #[serde(rename = "coordTimes", borrow)]
    coord_times: Option<Times<'a>>,
    #[serde(rename = "coordinateProperties", borrow)]
    coordinate_properties: Option<CoordinateProperties<'a>>,
}

#[derive(Deserialize)]
struct CoordinateProperties<'a> {
    #[serde(borrow)]
    times: Option<Times<'a>>,
}

impl<'a> Feature<'a> {
    fn tell<S: Sink>(self, taker: &mut Taker<'_, S>) -> serde_json::Result<()> {
        let (Some(geometry), "Feature") = (self.geometry, &*self.kind.0) else {
            return Err(serde_json::Error::custom("it must be a `Feature` with a geometry"));
        };
        let missing = || serde_json::Error::custom("its geometry has no coordinates");
        let mut json = serde_json::Deserializer::from_str(geometry.coordinates.ok_or_else(missing)?.get());
        let properties = self.properties.unwrap_or_default();
        let n_levels = match &*geometry.kind.0 {
            "Point" => return taker.take(properties.at(Place::deserialize(&mut json)?)),
            "LineString" => 1,
            "MultiLineString" => 2,
            other => {
                let other: String = other.chars().take(30).collect();
                return Err(serde_json::Error::custom(format!("a `{}` is no point and no line", other.escape_debug())));
            }
        };
        let times = properties.coord_times.or(properties.coordinate_properties.and_then(|of_places| of_places.times));
        let Some(Times(times)) = times else {
            return Err(serde_json::Error::custom("a line must have a time for each place, in `coordTimes`"));
        };
        let track_id = match properties.track_id {
            Some(text) => Some(text.0.parse().map_err(|_| serde_json::Error::custom("`track_id` is not a UUID"))?),
            None => None,
        };
        let mut n_taken = 0;
        let mut place = |place: Place| {
            let recorded_at = times.get(n_taken).map(|time| Text(Cow::Borrowed(&*time.0)));
            n_taken += 1;
            taker.take(Ok(RawPoint { track_id, recorded_at, ..place.raw() }))
        };
        Line { n_levels, place: &mut place }.deserialize(&mut json)
    }
}

impl<'a> Properties<'a> {
    /// The point that is there.
    fn at(self, place: Place) -> Result<RawPoint<'a>> {
        let track_id = self.track_id.map(|text| text.0.parse().map_err(|_| invalid("track_id", "uuid", "is not a UUID"))).transpose()?;
        Ok(RawPoint {
            track_id,
            recorded_at: self.recorded_at.or(self.time),
            altitude_m: self.altitude_m.or(place.altitude_m),
            speed_mps: self.speed_mps,
            heading_deg: self.heading_deg,
            accuracy_m: self.accuracy_m,
            attributes: self.attributes,
            lat: Some(place.lat),
            lon: Some(place.lon),
        })
    }
}

/// A position: longitude, latitude, altitude, and whatever else programs put there.
#[derive(Debug, Clone, Copy)]
struct Place {
    lon: f64,
    lat: f64,
    altitude_m: Option<f64>,
}

impl Place {
    fn raw<'a>(self) -> RawPoint<'a> {
        RawPoint { lat: Some(self.lat), lon: Some(self.lon), altitude_m: self.altitude_m, ..RawPoint::default() }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Place;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a position: longitude and latitude, with or without an altitude")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Place, A::Error> {
                let too_short = || A::Error::custom("a position has two numbers at least");
                let lon = seq.next_element()?.ok_or_else(too_short)?;
                let lat = seq.next_element()?.ok_or_else(too_short)?;
                let altitude_m = seq.next_element::<Option<f64>>()?.flatten();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Place { lon, lat, altitude_m })
            }
        }
        deserializer.deserialize_seq(Numbers)
    }
}

/// The positions of a line, or of several: lists of lists.
struct Line<'p> {
    n_levels: u8,
    place: &'p mut dyn FnMut(Place) -> serde_json::Result<()>,
}

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Line<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of positions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.n_levels > 1 {
            while seq.next_element_seed(Line { n_levels: self.n_levels - 1, place: &mut *self.place })?.is_some() {}
            return Ok(());
        }
        while let Some(place) = seq.next_element()? {
            (self.place)(place).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The times of a line, or of several one behind the other.
#[derive(Default)]
struct Times<'a>(Vec<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Times<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut times: Times<'de> = Times::default();
        AddTimes { times: &mut times, n_levels: 2 }.deserialize(deserializer)?;
        Ok(times)
    }
}

struct AddTimes<'t, 'de> {
    times: &'t mut Times<'de>,
    n_levels: u8,
}

impl<'de> DeserializeSeed<'de> for AddTimes<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> AddTimes<'_, 'de> {
    fn add<E: serde::de::Error>(self, time: Text<'de>) -> Result<(), E> {
        if self.times.0.len() == PLACES_MAX {
            return Err(E::custom(format!("a line may have {PLACES_MAX} places")));
        }
        self.times.0.push(time);
        Ok(())
    }
}

impl<'de> Visitor<'de> for AddTimes<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of times")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<(), E> {
        self.add(Text(text.into()))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.add(Text(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some(n_levels) = self.n_levels.checked_sub(1) else { return Err(A::Error::custom("times are nested too deep")) };
        while seq.next_element_seed(AddTimes { times: &mut *self.times, n_levels })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
