//! A histogram on its way from one process to another.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A histogram as pairs of value and count.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counts(Vec<(u64, u64)>);

impl Counts {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect())
    }

    pub(crate) fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (value, count) in &self.0 {
            histogram.saturating_record_n(*value, *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::new_histogram;

    #[test]
    fn a_histogram_survives_the_way() {
        let mut histogram = new_histogram();
        for value in [1_500, 80_000, 80_000, 7_000_000_000] {
            histogram.saturating_record(value);
        }
        let line = serde_json::to_string(&Counts::of(&histogram)).expect("plain data");
        let back: Counts = serde_json::from_str(&line).expect("the same data");
        let mut again = new_histogram();
        back.add_to(&mut again);
        let quantiles = [0.0, 0.5, 0.99, 1.0];
        assert_eq!(quantiles.map(|at| again.value_at_quantile(at)), quantiles.map(|at| histogram.value_at_quantile(at)));
        assert_eq!(again.len(), 4);
    }
}
