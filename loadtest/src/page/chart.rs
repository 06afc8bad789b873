//! Line charts as SVG, with their figures in a table beneath: who cannot see the one reads the other.

use std::fmt::Write;

use super::element::{Cell, Narrow, escape, table};

/// The drawing's own units. About as wide as a phone, so that its words are readable there.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Steps of a linear scale, about.
const TICKS: f64 = 4.0;

/// Lines over steps at even distances.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What a step is, and what each is called.
    pub(super) steps_of: &'static str,
    pub(super) steps: Vec<String>,
    pub(super) unit: &'static str,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
}

pub(super) struct Series {
    pub(super) name: &'static str,
    /// One for each step.
    pub(super) values: Vec<Option<f64>>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Measured,
    /// Drawn dashed.
    Promised,
    /// Steps that have nothing to do with each other: a bar for each.
    Apart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Log,
}

impl Series {
    pub(super) fn measured(name: &'static str, values: Vec<Option<f64>>) -> Self {
        Self { name, values, kind: Kind::Measured }
    }
}

impl Chart {
    /// The whole figure; nothing when there is nothing to draw.
    pub(super) fn html(&self) -> String {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let values: Vec<f64> = values.filter(|value| value.is_finite() && *value >= 0.0).collect();
        if values.is_empty() {
            return String::new();
        }
        let axis = Axis::of(self.scale, &values);
        let title = escape(self.title);
        let mut html = format!("<figure><figcaption>{title}</figcaption>");
        html.push_str(&self.legend());
        write!(html, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}; the figures are in the table below\">")
            .expect(STRING);
        html.push_str(&self.frame(&axis));
        for (number, series) in self.series.iter().enumerate() {
            html.push_str(&self.line(number, series, &axis));
        }
        html.push_str("</svg>");
        writeln!(html, "<details><summary>Figures</summary>{}</details></figure>", self.figures()).expect(STRING);
        html
    }

    fn legend(&self) -> String {
        let items = self.series.iter().enumerate().map(|(number, series)| {
            let class = if series.kind == Kind::Promised { "swatch promised" } else { "swatch" };
            format!("<li><span class=\"{class} c{number}\"></span>{}</li>", escape(series.name))
        });
        format!("<ul class=\"legend\">{}</ul>", items.collect::<String>())
    }

    fn x(&self, step: usize) -> f64 {
        let room = WIDTH - LEFT - RIGHT;
        match self.steps.len() {
            0 | 1 => LEFT + room / 2.0,
            // Half a step is left free on either side.
            n => LEFT + room * (step as f64 + 0.5) / n as f64,
        }
    }

    fn frame(&self, axis: &Axis) -> String {
        let mut svg = String::new();
        for value in &axis.ticks {
            let y = axis.y(*value);
            write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT).expect(STRING);
            write!(svg, "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, y + 4.0, short(*value))
                .expect(STRING);
        }
        for (step, name) in self.steps.iter().enumerate() {
            let (x, y) = (self.x(step), HEIGHT - BOTTOM + 16.0);
            write!(svg, "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", escape(name)).expect(STRING);
        }
        let (middle, bottom) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6.0);
        let named = format!("{} (left: {})", self.steps_of, self.unit);
        write!(svg, "<text class=\"axis\" x=\"{middle:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{}</text>", escape(&named))
            .expect(STRING);
        svg
    }

    fn line(&self, number: usize, series: &Series, axis: &Axis) -> String {
        let points: Vec<(f64, f64, usize, f64)> = series
            .values
            .iter()
            .enumerate()
            .filter_map(|(step, value)| Some((step, (*value)?)))
            .map(|(step, value)| (self.x(step), axis.y(value), step, value))
            .collect();
        if series.kind == Kind::Apart {
            return self.bars(number, series, axis);
        }
        let path: Vec<String> = points.iter().map(|(x, y, _, _)| format!("{x:.1},{y:.1}")).collect();
        let class = if series.kind == Kind::Promised { "line promised" } else { "line" };
        let mut svg = format!("<polyline class=\"{class} c{number}\" points=\"{}\"/>", path.join(" "));
        for (x, y, step, value) in points {
            let step = escape(self.steps.get(step).map_or("", String::as_str));
            let told = format!("{}, {step}: {} {}", escape(series.name), exact(value), escape(self.unit));
            write!(svg, "<circle class=\"dot c{number}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{told}</title></circle>")
                .expect(STRING);
        }
        svg
    }

    fn bars(&self, number: usize, series: &Series, axis: &Axis) -> String {
        let width = 0.6 * (WIDTH - LEFT - RIGHT) / self.steps.len().max(1) as f64;
        let mut svg = String::new();
        for (step, value) in series.values.iter().enumerate().filter_map(|(step, value)| Some((step, (*value)?))) {
            let (x, y) = (self.x(step) - width / 2.0, axis.y(value));
            let height = HEIGHT - BOTTOM - y;
            let told = format!("{}: {} {}", escape(self.steps.get(step).map_or("", String::as_str)), exact(value), escape(self.unit));
            write!(svg, "<rect class=\"bar c{number}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{told}</title></rect>").expect(STRING);
        }
        svg
    }

    fn figures(&self) -> String {
        let headings: Vec<&str> = std::iter::once(self.steps_of).chain(self.series.iter().map(|series| series.name)).collect();
        let row = |(step, name): (usize, &String)| {
            let values = self.series.iter().map(|series| series.values.get(step).copied().flatten());
            let cells = values.map(|value| Cell::number(value.map_or_else(|| "–".to_owned(), exact)));
            std::iter::once(Cell::text(name.clone())).chain(cells).collect()
        };
        let rows: Vec<Vec<Cell>> = self.steps.iter().enumerate().map(row).collect();
        table(&format!("{} ({})", self.title, self.unit), &headings, &rows, Narrow::Scrolls)
    }
}

/// Why a result needs no look.
const STRING: &str = "writing to a string cannot fail";

/// From values to heights.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn of(scale: Scale, values: &[f64]) -> Self {
        let most = values.iter().copied().fold(0.0, f64::max).max(1e-3);
        match scale {
            Scale::Linear => {
                let step = nice(most / TICKS);
                let n_steps = (most / step).ceil().max(1.0);
                let ticks = (0..=n_steps as u32).map(|n| f64::from(n) * step).collect();
                Self { scale, low: 0.0, high: step * n_steps, ticks }
            }
            Scale::Log => {
                let least = values.iter().copied().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min).min(most);
                let (low, high) = (least.log10().floor() as i32, (most.log10().ceil() as i32).max(least.log10().floor() as i32 + 1));
                let ticks = (low..=high).map(|power| 10f64.powi(power)).collect();
                Self { scale, low: 10f64.powi(low), high: 10f64.powi(high), ticks }
            }
        }
    }

    fn y(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        };
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }
}

/// The next step of 1, 2 or 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let times = step / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|nice| times <= *nice + 1e-9).unwrap_or(10.0)
}

/// For ticks: `20k`, `1.5M`, `0.1`.
fn short(value: f64) -> String {
    let trimmed = |value: f64, unit: &str| format!("{}{unit}", (value * 100.0).round() / 100.0);
    match value {
        _ if value >= 1e6 => trimmed(value / 1e6, "M"),
        _ if value >= 1e3 => trimmed(value / 1e3, "k"),
        _ => trimmed(value, ""),
    }
}

/// For tables: three significant digits, thousands grouped.
fn exact(value: f64) -> String {
    crate::columns::short_ms(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_steps_that_hold_every_value() {
        let ticks = |scale, values: &[f64]| Axis::of(scale, values).ticks;
        assert_eq!(ticks(Scale::Linear, &[3.0, 95_000.0]), [0.0, 50_000.0, 100_000.0]);
        assert_eq!(ticks(Scale::Linear, &[61.0]), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(ticks(Scale::Log, &[0.4, 12.0]), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!(ticks(Scale::Log, &[10.0]), [10.0, 100.0]);
        assert_eq!([999.0, 1_500.0, 20_000.0, 1_200_000.0, 0.1].map(short), ["999", "1.5k", "20k", "1.2M", "0.1"]);
    }

    #[test]
    fn a_chart_has_its_figures_beneath_and_nothing_comes_of_nothing() {
        let chart = |values: Vec<Option<f64>>| Chart {
            title: "Requests",
            steps_of: "connections",
            steps: vec!["100".to_owned(), "1,000".to_owned()],
            unit: "per second",
            scale: Scale::Linear,
            series: vec![Series::measured("measured", values)],
        };
        let html = chart(vec![Some(50.0), None]).html();
        assert_eq!(html.matches("<circle").count(), 1);
        assert!(html.contains("<td data-label=\"measured\" class=\"number\">50.0</td>") && html.contains(">–</td>"), "{html}");
        assert_eq!(chart(vec![None, None]).html(), "");
    }
}
