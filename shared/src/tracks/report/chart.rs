//! Charts in SVG, to stand in a page. They are made of numbers and of texts of ours alone.

use crate::points::stats::Bucket;
use std::fmt::Write as _;
use time::{OffsetDateTime, UtcOffset};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
/// Room for the numbers at the left, and for the times below.
const LEFT: f64 = 64.0;
const BELOW: f64 = 26.0;
const ABOVE: f64 = 10.0;
/// Lines across, beside the one at zero.
const N_LINES: u32 = 4;
/// Times below, at most.
const N_TIMES: usize = 7;
/// How large a dot is.
const DOT: f64 = 2.5;

/// A chart over time: a value for each column, `None` where nothing is known.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// Behind numbers.
    pub(super) unit: &'a str,
    pub(super) starts: &'a [OffsetDateTime],
    pub(super) bucket: Bucket,
    pub(super) values: Vec<Option<f64>>,
    pub(super) form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    Bars,
    /// A line, and a fainter one above it.
    Line {
        above: Vec<Option<f64>>,
    },
}

impl Chart<'_> {
    pub(super) fn render(&self) -> String {
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", self.title);
        let above = match &self.form {
            Form::Bars => &[][..],
            Form::Line { above } => above,
        };
        let most = self.values.iter().chain(above).flatten().copied().fold(0.0, f64::max);
        let top = round_up(most);
        self.draw_grid(&mut svg, top);
        match &self.form {
            Form::Bars => self.draw_bars(&mut svg, top),
            Form::Line { above } => {
                self.draw_line(&mut svg, top, above, "above");
                self.draw_line(&mut svg, top, &self.values, "line");
            }
        }
        svg.push_str("</svg>");
        svg
    }

    /// The column that begins then: a day has no time.
    fn called(&self, start: OffsetDateTime) -> String {
        match self.bucket {
            Bucket::Hour => minute(start),
            Bucket::Day => start.to_offset(UtcOffset::UTC).date().to_string(),
        }
    }

    fn column_width(&self) -> f64 {
        (WIDTH - LEFT) / self.values.len().max(1) as f64
    }

    fn draw_grid(&self, svg: &mut String, top: f64) {
        for line in 0..=N_LINES {
            let value = top * f64::from(line) / f64::from(N_LINES);
            let y = y_of(value, top);
            put(svg, format_args!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\"/>"));
            put(svg, format_args!("<text class=\"value\" x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 8.0, y + 4.0, short(value)));
        }
        let every = self.starts.len().div_ceil(N_TIMES).max(1);
        let is_within_days = self.starts.first().zip(self.starts.last()).is_some_and(|(first, last)| (*last - *first).whole_days() < 4);
        for (column_idx, start) in self.starts.iter().enumerate().step_by(every) {
            let x = LEFT + (column_idx as f64 + 0.5) * self.column_width();
            let text = if is_within_days { self.called(*start) } else { start.date().to_string() };
            put(svg, format_args!("<text class=\"time\" x=\"{x:.1}\" y=\"{}\">{text}</text>", HEIGHT - 8.0));
        }
    }

    fn draw_bars(&self, svg: &mut String, top: f64) {
        let width = self.column_width();
        let gap = if width > 4.0 { width * 0.2 } else { 0.0 };
        for (column_idx, (value, start)) in self.values.iter().zip(self.starts).enumerate() {
            let Some(value) = value.filter(|value| *value > 0.0) else { continue };
            let (x, y) = (LEFT + column_idx as f64 * width + gap / 2.0, y_of(value, top));
            let height = y_of(0.0, top) - y;
            put(svg, format_args!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\">", width - gap));
            put(svg, format_args!("<title>{} · {} {}</title></rect>", self.called(*start), short(value), self.unit));
        }
    }

    /// Interrupted where nothing is known; what stands alone is a dot.
    fn draw_line(&self, svg: &mut String, top: f64, values: &[Option<f64>], class: &str) {
        let (mut path, mut dots) = (String::new(), String::new());
        let mut is_drawing = false;
        for (column_idx, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let (x, y) = (LEFT + (column_idx as f64 + 0.5) * self.column_width(), y_of(*value, top));
                let is_alone = !is_drawing && values.get(column_idx + 1).is_none_or(Option::is_none);
                if is_alone {
                    put(&mut dots, format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{DOT}\"/>"));
                } else {
                    put(&mut path, format_args!("{}{x:.1} {y:.1}", if is_drawing { 'L' } else { 'M' }));
                }
            }
            is_drawing = value.is_some();
        }
        put(svg, format_args!("<path class=\"{class}\" d=\"{path}\"/>{dots}"));
    }
}

/// A small chart without words.
pub(super) fn spark(values: &[f64]) -> String {
    const SPARK_WIDTH: f64 = 160.0;
    const SPARK_HEIGHT: f64 = 24.0;
    let most = values.iter().copied().fold(0.0, f64::max);
    let mut svg = format!("<svg class=\"spark\" viewBox=\"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}\" aria-hidden=\"true\">");
    let width = SPARK_WIDTH / values.len().max(1) as f64;
    for (column_idx, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let height = (value / most * SPARK_HEIGHT).max(1.0);
        let (x, y) = (column_idx as f64 * width, SPARK_HEIGHT - height);
        put(&mut svg, format_args!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>", (width * 0.85).max(0.5)));
    }
    svg.push_str("</svg>");
    svg
}

/// A number for people: three digits of it, with thousands as `k` and millions as `M`.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 999_500_000.0 => (value / 1e9, "G"),
        value if value >= 999_500.0 => (value / 1e6, "M"),
        value if value >= 9_999.5 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let decimals = if scaled >= 100.0 || scaled == scaled.trunc() {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// An instant in UTC, to the minute.
pub(super) fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute())
}

/// The next number whose quarters are round; a chart of nothing is one of up to 1.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|round| *round >= value)
        .unwrap_or(value)
}

fn y_of(value: f64, top: f64) -> f64 {
    ABOVE + (HEIGHT - ABOVE - BELOW) * (1.0 - value / top)
}

fn put(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("a string takes all that is written");
}
