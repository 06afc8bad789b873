//! Which traces are kept, by the names that OpenTelemetry gives the ways to choose.

use super::TraceContext;

/// `OTEL_TRACES_SAMPLER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    AlwaysOn,
    AlwaysOff,
    /// The share of all traces that `OTEL_TRACES_SAMPLER_ARG` says.
    Ratio,
    /// As the caller decided; without one, the same three ways.
    ParentOrOn,
    ParentOrOff,
    ParentOrRatio,
}

impl Sampler {
    pub const NAMES: [(&str, Self); 6] = [
        ("always_on", Self::AlwaysOn),
        ("always_off", Self::AlwaysOff),
        ("traceidratio", Self::Ratio),
        ("parentbased_always_on", Self::ParentOrOn),
        ("parentbased_always_off", Self::ParentOrOff),
        ("parentbased_traceidratio", Self::ParentOrRatio),
    ];

    pub(super) fn keeps(self, parent: Option<TraceContext>, trace_id: u128, ratio: f64) -> bool {
        let of_parent = parent.map(|parent| parent.is_sampled);
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::Ratio => is_within(trace_id, ratio),
            Self::ParentOrOn => of_parent.unwrap_or(true),
            Self::ParentOrOff => of_parent.unwrap_or(false),
            Self::ParentOrRatio => of_parent.unwrap_or_else(|| is_within(trace_id, ratio)),
        }
    }
}

impl Sampler {
    /// The same for a trace that a stranger began: neither what they decided counts, nor the trace's id, which they chose.
    pub(super) fn keeps_of_stranger(self, parent: Option<TraceContext>, own: TraceContext, ratio: f64) -> bool {
        let id = if parent.is_some() { own.span_id.into() } else { own.trace_id };
        self.keeps(None, id, ratio)
    }
}

/// By the id alone, so that all processes keep the same traces.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a share of 2^64, roughly; the low half of an id is random"
)]
fn is_within(trace_id: u128, ratio: f64) -> bool {
    (trace_id as u64) as f64 / u64::MAX as f64 <= ratio && ratio > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_traces_is_kept_and_the_callers_word_counts_where_it_is_asked() {
        let kept = (0..10_000).filter(|_| Sampler::Ratio.keeps(None, rand::random(), 0.25)).count();
        assert!((2_000..3_000).contains(&kept), "{kept}");
        let parent = |is_sampled| Some(TraceContext { trace_id: 1, span_id: 1, is_sampled });
        assert!(Sampler::ParentOrRatio.keeps(parent(true), u128::MAX, 0.0) && !Sampler::ParentOrOn.keeps(parent(false), 1, 1.0));
        assert!(Sampler::AlwaysOn.keeps(parent(false), 1, 0.0) && !Sampler::ParentOrOff.keeps(None, 1, 1.0));
        let own = |span_id| TraceContext { trace_id: 1, span_id, is_sampled: true };
        for sampler in [Sampler::Ratio, Sampler::ParentOrRatio] {
            assert!(
                !sampler.keeps_of_stranger(parent(true), own(u64::MAX), 0.01) && sampler.keeps_of_stranger(parent(false), own(1), 0.01)
            );
        }
        assert!(Sampler::ParentOrOn.keeps_of_stranger(parent(false), own(1), 0.0));
        assert!(!Sampler::Ratio.keeps(None, 0, 0.0) && Sampler::Ratio.keeps(None, u128::MAX, 1.0));
    }
}
