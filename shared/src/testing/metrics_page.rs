//! A page of metrics, read and held against the list.

use crate::telemetry::metrics::{Appears, METRICS, Metric, Shape, Teller};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Its name, its labels and its value.
type Series = (String, Vec<(String, String)>, f64);

/// What a page says, by the name of the metric.
#[derive(Debug, Default)]
pub struct MetricsPage(BTreeMap<String, Family>);

#[derive(Debug, Default)]
struct Family {
    shape: String,
    has_help: bool,
    series: Vec<Series>,
}

impl MetricsPage {
    /// Reads Prometheus' text form.
    ///
    /// # Panics
    /// On a line that is not of it.
    pub fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut current = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                help.split(' ').next().expect("a name").clone_into(&mut current);
                page.0.entry(current.clone()).or_default().has_help = true;
            } else if let Some(shape) = line.strip_prefix("# TYPE ") {
                let (name, shape) = shape.split_once(' ').expect("a name and a type");
                name.clone_into(&mut current);
                let family = page.0.entry(current.clone()).or_default();
                assert!(family.shape.is_empty(), "{name} stands on the page twice");
                shape.clone_into(&mut family.shape);
            } else {
                let series = read_series(line);
                assert!(series.0.starts_with(&current), "{line} stands under {current}");
                page.0.get_mut(&current).expect("a type comes first").series.push(series);
            }
        }
        page
    }

    /// The sum of the series of a metric whose labels hold all of `labels`; `None` without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let metric = name.trim_end_matches("_count").trim_end_matches("_bucket");
        let family = self.0.get(name).or_else(|| self.0.get(metric))?;
        let holds = |of: &[(String, String)]| labels.iter().all(|(name, value)| of.iter().any(|(n, v)| n == name && v == value));
        let values: Vec<f64> =
            family.series.iter().filter(|(series, of, _)| series == name && holds(of)).map(|(.., value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Everything in which the page of `teller` differs from the list.
    pub fn complaints(&self, teller: Teller) -> Vec<String> {
        let mut complaints = Vec::new();
        for (name, family) in &self.0 {
            let Some(metric) = Metric::find(name) else {
                complaints.push(format!("{name} is not on the list"));
                continue;
            };
            if family.shape != metric.shape.as_str() || !family.has_help {
                complaints.push(format!("{name} is told as {:?}, help: {}", family.shape, family.has_help));
            }
            complaints.extend(family.series.iter().filter_map(|(series, labels, _)| complaint(metric, series, labels)));
        }
        let is_told = |of: Teller| of == teller || of == Teller::Both || (of == Teller::Shared && teller == Teller::Api);
        for metric in METRICS.iter().filter(|metric| is_told(metric.teller) && metric.appears == Appears::Always) {
            if self.0.get(metric.name).is_none_or(|family| family.series.is_empty()) {
                complaints.push(format!("{} is missing", metric.name));
            }
        }
        complaints
    }
}

fn complaint(metric: &Metric, series: &str, labels: &[(String, String)]) -> Option<String> {
    let added = ["le", "quantile", "child"];
    let names: BTreeSet<&str> = labels.iter().map(|(name, _)| name.as_str()).filter(|name| !added.contains(name)).collect();
    if names != metric.labels.iter().copied().collect() {
        return Some(format!("{series} has the labels {names:?}"));
    }
    if metric.shape != Shape::Histogram && series != metric.name {
        return Some(format!("{series} is no series of {}", metric.name));
    }
    let id = labels.iter().find(|(_, value)| value.split(['/', ':', ' ']).any(|part| Uuid::parse_str(part).is_ok()));
    id.map(|(name, value)| format!("{series} has an id in its labels: {name}={value}"))
}

fn read_series(line: &str) -> Series {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().expect("a number");
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), Vec::new(), value) };
    let mut rest = labels.strip_suffix('}').expect("a closing brace");
    let mut read = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("a label");
        let end = after.find("\",").map_or(after.len() - 1, |end| end);
        read.push((label.to_owned(), after[..end].to_owned()));
        rest = after[end..].trim_start_matches('"').trim_start_matches(',');
    }
    (name.to_owned(), read, value)
}
