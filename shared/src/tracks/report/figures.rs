//! The sums of a page: of all tracks by time, and of each track. However long the report's time is, there are only so many columns.

use super::{Span, run::Named};
use crate::points::HourRow;
use time::OffsetDateTime;

/// Columns of the large charts, at most.
const COLUMNS_MAX: usize = 240;
/// Columns of a track's own chart.
const SPARKS_MAX: usize = 48;

#[derive(Debug)]
pub(super) struct Figures {
    pub(super) span: Span,
    pub(super) total: Sum,
    /// Of all tracks together, by time.
    pub(super) columns: Vec<Sum>,
    pub(super) tracks: Vec<OfTrack>,
}

#[derive(Debug)]
pub(super) struct OfTrack {
    pub(super) track: Named,
    pub(super) total: Sum,
    /// Its points by time.
    pub(super) sparks: Vec<f64>,
}

/// Of some buckets together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) count: i64,
    pub(super) speed_count: i64,
    pub(super) speed_sum: f64,
    pub(super) speed_max: Option<f64>,
    pub(super) distance_m: f64,
}

impl Sum {
    fn add(&mut self, row: &HourRow) {
        self.count += row.count.unwrap_or_default();
        self.speed_count += row.speed_count.unwrap_or_default();
        self.speed_sum += row.speed_sum.unwrap_or_default();
        self.speed_max = [self.speed_max, row.speed_max].into_iter().flatten().reduce(f64::max);
        self.distance_m += row.distance_m.unwrap_or_default();
    }

    pub(super) fn speed_avg(&self) -> Option<f64> {
        (self.speed_count > 0).then(|| self.speed_sum / self.speed_count as f64)
    }
}

impl Figures {
    pub(super) fn new(span: Span) -> Self {
        let n_columns = usize::try_from(span.n_buckets()).unwrap_or(1).div_ceil(buckets_per_column(span, COLUMNS_MAX));
        Self { span, total: Sum::default(), columns: vec![Sum::default(); n_columns], tracks: Vec::new() }
    }

    /// `rows` are the buckets of `track`.
    pub(super) fn add(&mut self, track: &Named, rows: &[HourRow]) {
        let (per_column, per_spark) = (buckets_per_column(self.span, COLUMNS_MAX), buckets_per_column(self.span, SPARKS_MAX));
        let n_sparks = usize::try_from(self.span.n_buckets()).unwrap_or(1).div_ceil(per_spark);
        let mut of_track = OfTrack { track: track.clone(), total: Sum::default(), sparks: vec![0.0; n_sparks] };
        for row in rows {
            let Ok(bucket_idx) = usize::try_from(self.span.index_of(row.start)) else { continue };
            of_track.total.add(row);
            self.total.add(row);
            if let Some(column) = self.columns.get_mut(bucket_idx / per_column) {
                column.add(row);
            }
            if let Some(spark) = of_track.sparks.get_mut(bucket_idx / per_spark) {
                *spark += row.count.unwrap_or_default() as f64;
            }
        }
        self.tracks.push(of_track);
    }

    /// When a column of the large charts begins.
    pub(super) fn starts(&self) -> impl Iterator<Item = OffsetDateTime> + use<'_> {
        let n_buckets = i32::try_from(buckets_per_column(self.span, COLUMNS_MAX)).unwrap_or(i32::MAX);
        let (first, step) = (self.span.start_of(self.span.from), self.span.bucket_length() * n_buckets);
        (0..).map(move |column_idx| first + step * column_idx).take(self.columns.len())
    }

    /// How much time a column of the large charts is of, in words.
    pub(super) fn column_in_words(&self) -> String {
        let n_buckets = buckets_per_column(self.span, COLUMNS_MAX);
        let unit = self.span.bucket.as_str();
        if n_buckets == 1 { unit.to_owned() } else { format!("{n_buckets} {unit}s") }
    }
}

fn buckets_per_column(span: Span, columns_max: usize) -> usize {
    usize::try_from(span.n_buckets()).unwrap_or(1).div_ceil(columns_max).max(1)
}
