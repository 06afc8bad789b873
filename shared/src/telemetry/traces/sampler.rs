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

/// Whose a span's parent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of a process of ours. It has decided, and what is below it follows: the trace's id may be a stranger's.
    Ours,
    /// A caller's who may decide what is kept.
    Trusted,
    /// A caller's who may not.
    Stranger,
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

    /// Whether the span `own` is kept, which is below `parent`.
    pub(super) fn keeps(self, whose: Whose, parent: Option<TraceContext>, own: TraceContext, ratio: f64) -> bool {
        let decided = match whose {
            Whose::Ours => parent.map(|parent| parent.is_sampled),
            Whose::Trusted => parent.filter(|_| self != Self::Ratio).map(|parent| parent.is_sampled),
            Whose::Stranger => None,
        };
        // Of a stranger's trace not even the id counts, which they chose.
        let is_strangers = whose == Whose::Stranger && parent.is_some();
        let id = if is_strangers { own.span_id.into() } else { own.trace_id };
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::ParentOrOn => decided.unwrap_or(true),
            Self::ParentOrOff => decided.unwrap_or(false),
            Self::Ratio | Self::ParentOrRatio => decided.unwrap_or_else(|| is_within(id, ratio)),
        }
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

    fn context(trace_id: u128, span_id: u64, is_sampled: bool) -> TraceContext {
        TraceContext { trace_id, span_id, is_sampled }
    }

    /// Whether a span is kept below a parent that was or was not.
    fn keeps(sampler: Sampler, whose: Whose, of_parent: Option<bool>, trace_id: u128, ratio: f64) -> bool {
        sampler.keeps(whose, of_parent.map(|is_sampled| context(trace_id, 1, is_sampled)), context(trace_id, u64::MAX, true), ratio)
    }

    #[test]
    fn a_share_of_all_traces_is_kept_and_the_word_of_callers_counts_who_are_trusted() {
        let kept = (0..10_000).filter(|_| keeps(Sampler::Ratio, Whose::Ours, None, rand::random(), 0.25)).count();
        assert!((2_000..3_000).contains(&kept), "{kept}");
        let trusted = |sampler, of_parent, id, ratio| keeps(sampler, Whose::Trusted, of_parent, id, ratio);
        assert!(trusted(Sampler::ParentOrRatio, Some(true), u128::MAX, 0.0) && !trusted(Sampler::ParentOrOn, Some(false), 1, 1.0));
        assert!(trusted(Sampler::AlwaysOn, Some(false), 1, 0.0) && !trusted(Sampler::ParentOrOff, None, 1, 1.0));
        assert!(trusted(Sampler::Ratio, Some(false), 1, 0.01) && !trusted(Sampler::Ratio, Some(true), u128::MAX, 0.01));
        assert!(!trusted(Sampler::Ratio, None, 0, 0.0) && trusted(Sampler::Ratio, None, u128::MAX, 1.0));
    }

    #[test]
    fn a_stranger_decides_neither_by_word_nor_by_id() {
        for sampler in [Sampler::Ratio, Sampler::ParentOrRatio] {
            assert!(!keeps(sampler, Whose::Stranger, Some(true), 1, 0.01));
            let lucky = context(u128::MAX, 1, true);
            assert!(sampler.keeps(Whose::Stranger, Some(context(u128::MAX, u64::MAX, false)), lucky, 0.01));
        }
        assert!(keeps(Sampler::ParentOrOn, Whose::Stranger, Some(false), 1, 0.0));
    }

    #[test]
    fn what_a_process_of_ours_decided_is_followed_whatever_the_id() {
        for sampler in [Sampler::Ratio, Sampler::ParentOrRatio] {
            assert!(!keeps(sampler, Whose::Ours, Some(false), 1, 0.5) && keeps(sampler, Whose::Ours, Some(true), u128::MAX, 0.5));
        }
        assert!(keeps(Sampler::AlwaysOn, Whose::Ours, Some(false), 1, 0.0) && !keeps(Sampler::AlwaysOff, Whose::Ours, Some(true), 1, 1.0));
    }
}
