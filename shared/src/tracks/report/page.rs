//! A report as a page of HTML, whole in itself: its charts are SVG within it, and its policy lets nothing be loaded or run. Names of tracks are
//! text of others, and escaped.

use super::{
    chart::{Chart, Form, minute, short, spark},
    figures::{Figures, OfTrack, Sum},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use time::OffsetDateTime;

const STYLE: &str = include_str!("page.css");

pub(super) fn render(figures: &Figures, now: OffsetDateTime) -> String {
    let mut page = head();
    let put = |page: &mut String, piece: std::fmt::Arguments<'_>| page.write_fmt(piece).expect("a string takes all that is written");
    let (from, to) = (minute(figures.span.from), minute(figures.span.to));
    put(&mut page, format_args!("<header><h1>Tracks</h1><p>{from} to {to} UTC · made {} UTC</p></header>\n", minute(now)));
    page.push_str("<dl>");
    for (name, value) in tiles(figures) {
        put(&mut page, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    }
    page.push_str("</dl>\n");
    let every = figures.column_in_words();
    for (chart, caption) in charts(figures, &figures.starts().collect::<Vec<_>>()) {
        let title = chart.title;
        put(&mut page, format_args!("<section><h2>{title} <small>{caption}, each {every}</small></h2>{}</section>\n", chart.render()));
    }
    page.push_str("<section><h2>Each track</h2><table><thead><tr><th>Track<th>Points<th>Distance<th>Average<th>Fastest<th>Points over time</thead>\n<tbody>");
    figures.tracks.iter().for_each(|of_track| page.push_str(&row(of_track)));
    page.push_str("</tbody></table></section>\n</html>\n");
    page
}

fn head() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Tracks · Millrace</title>\n<style>{STYLE}</style>\n"
    )
}

fn tiles(figures: &Figures) -> [(&'static str, String); 5] {
    let Figures { total, tracks, .. } = figures;
    let n_moving = tracks.iter().filter(|of_track| of_track.total.count > 0).count();
    [
        ("Tracks with points", format!("{n_moving} of {}", tracks.len())),
        ("Points", grouped(total.count)),
        ("Distance", kilometres(total.distance_m)),
        ("Average speed", speed(total.speed_avg())),
        ("Fastest", speed(total.speed_max)),
    ]
}

/// Each with what it shows of a column, in words.
fn charts<'a>(figures: &Figures, starts: &'a [OffsetDateTime]) -> [(Chart<'a>, &'static str); 3] {
    let values = |of: fn(&Sum) -> Option<f64>| figures.columns.iter().map(of).collect::<Vec<_>>();
    let bucket = figures.span.bucket;
    let km_per_h = |mps: f64| mps * 3.6;
    let points = values(|column| Some(column.count as f64));
    let distances = values(|column| Some(column.distance_m / 1_000.0));
    let averages = values(Sum::speed_avg).into_iter().map(|speed| speed.map(km_per_h)).collect();
    let above = values(|column| column.speed_max).into_iter().map(|speed| speed.map(km_per_h)).collect();
    [
        (Chart { title: "Points", unit: "points", starts, bucket, values: points, form: Form::Bars }, "stored"),
        (Chart { title: "Distance", unit: "km", starts, bucket, values: distances, form: Form::Bars }, "kilometres of all tracks"),
        (
            Chart { title: "Speed", unit: "km/h", starts, bucket, values: averages, form: Form::Line { above } },
            "km/h, the average and the fastest",
        ),
    ]
}

fn row(of_track: &OfTrack) -> String {
    let OfTrack { track, total, sparks } = of_track;
    format!(
        "<tr><td title=\"{}\">{}<td>{}<td>{}<td>{}<td>{}<td>{}\n",
        track.id,
        escaped(&track.name),
        grouped(total.count),
        kilometres(total.distance_m),
        speed(total.speed_avg()),
        speed(total.speed_max),
        spark(sparks),
    )
}

fn speed(mps: Option<f64>) -> String {
    mps.map_or("–".to_owned(), |mps| format!("{} km/h", short(mps * 3.6)))
}

fn kilometres(metres: f64) -> String {
    format!("{} km", short(metres / 1_000.0))
}

/// With a comma before each three digits.
fn grouped(n: i64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text of others, as text of a page.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character => safe.push(character),
        }
    }
    safe
}
