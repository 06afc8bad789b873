//! How soon the server decided to shed, by its own clock: the histogram `http_server_shed_seconds` of its metrics.

use crate::error::Error;

const METRIC: &str = "http_server_shed_seconds_bucket";

/// Requests shed so far, by how long the decision took.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shed {
    /// Upper bounds in seconds, with how many took at most so long; the last bound is infinite.
    buckets: Vec<(f64, f64)>,
}

impl Shed {
    /// Reads what `/metrics` says; a server that has shed nothing yet does not name it.
    pub(super) fn read(metrics: &str) -> Result<Self, Error> {
        let mut shed = Self::default();
        for line in metrics.lines().filter(|line| line.starts_with(METRIC)) {
            let bucket = parsed(line).ok_or_else(|| Error::failed(format!("the server's metrics cannot be read: {line}")))?;
            match shed.buckets.iter_mut().find(|(bound, _)| *bound == bucket.0) {
                Some((_, count)) => *count += bucket.1,
                None => shed.buckets.push(bucket),
            }
        }
        shed.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(shed)
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// Milliseconds that 99 % of those shed since `before` took at most: the bound of their bucket. None when there were none.
    pub(super) fn p99_ms_since(&self, before: &Self) -> Option<f64> {
        let count_before = |bound: f64| before.buckets.iter().find(|(of, _)| *of == bound).map_or(0.0, |(_, count)| *count);
        let since: Vec<(f64, f64)> = self.buckets.iter().map(|(bound, count)| (*bound, count - count_before(*bound))).collect();
        let total = since.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        since.iter().find(|(_, count)| *count >= 0.99 * total).map(|(bound, _)| bound * 1e3)
    }
}

fn parsed(line: &str) -> Option<(f64, f64)> {
    let (_, bound) = line.split_once("le=\"")?;
    let (bound, rest) = bound.split_once('"')?;
    let (_, count) = rest.rsplit_once(' ')?;
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    Some((bound, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_is_told_from_what_was_before() {
        let text = |a: u32, b: u32, c: u32| {
            format!(
                "# TYPE x\nhttp_server_shed_seconds_bucket{{class=\"read\",le=\"0.001\"}} {a}\nhttp_server_shed_seconds_bucket{{class=\"read\",le=\"0.01\"}} {b}\nhttp_server_shed_seconds_bucket{{class=\"read\",le=\"+Inf\"}} {c}\nhttp_server_shed_seconds_sum 4\n"
            )
        };
        let read = |text: &str| Shed::read(text).unwrap_or_default();
        let before = read(&text(100, 100, 100));
        let after = read(&(text(100, 200, 200) + &text(0, 100, 101)));
        assert_eq!((after.total(), after.p99_ms_since(&before)), (301.0, Some(10.0)));
        assert_eq!(before.p99_ms_since(&before), None);
        assert_eq!(read("").p99_ms_since(&Shed::default()), None);
        assert!(Shed::read("http_server_shed_seconds_bucket 5").is_err());
    }
}
