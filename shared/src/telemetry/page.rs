//! A page of metrics in Prometheus' text form, line by line.

use super::metric::Metric;
use std::fmt::{Display, Write};

/// Written from top to bottom: the head of a metric, then its series.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a metric of the list.
    pub fn begin(&mut self, metric: &Metric) {
        self.head(metric.name, metric.shape.as_str());
    }

    /// The same for one that may not be of the list.
    pub(super) fn head(&mut self, name: &str, shape: &str) {
        if let Some(metric) = Metric::find(name) {
            writeln!(self.0, "# HELP {name} {}", metric.meaning).expect("writing to a string cannot fail");
        }
        writeln!(self.0, "# TYPE {name} {shape}").expect("writing to a string cannot fail");
    }

    /// One series; `labels` as [`labels`] writes them.
    pub fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        }
        .expect("writing to a string cannot fail");
    }

    /// A metric of the list with one series and no labels.
    pub fn single(&mut self, name: &str, value: impl Display) {
        let metric = Metric::find(name).expect("only metrics of the list are told");
        self.begin(metric);
        self.line(name, "", value);
    }

    /// A metric of the list, by the values of its labels. Nothing is said of one without series.
    pub fn series<const N: usize>(&mut self, name: &str, series: impl IntoIterator<Item = ([String; N], f64)>) {
        let metric = Metric::find(name).expect("only metrics of the list are told");
        let mut has_begun = false;
        for (values, value) in series {
            if !std::mem::replace(&mut has_begun, true) {
                self.begin(metric);
            }
            self.line(name, &labels(metric.labels.iter().copied().zip(values.iter().map(String::as_str))), value);
        }
    }

    pub fn append(&mut self, page: &str) {
        self.0.push_str(page);
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// `name="value"` with commas, as they stand between braces.
pub fn labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    labels.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}
