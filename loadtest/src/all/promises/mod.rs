//! Every promise that operators of the replaced stacks were given, beside what was measured here.
//!
//! `times` how long something takes · `throughput` how much of it · `users` by how many at once · `queue` the queue and the pools · what
//! parts judge by themselves is taken as it is. To add one: a line in the group's list.

mod queue;
mod throughput;
mod times;
mod users;

use super::findings::Findings;
use super::report::{Judged, Verdict};

/// All promises, in the order of their groups.
pub(super) fn judge(findings: Findings<'_>, n_servers: usize) -> Vec<Judged> {
    let mut judged = times::judge(findings);
    judged.extend(throughput::judge(findings, n_servers));
    judged.extend(users::judge(findings, n_servers));
    judged.extend(queue::judge(findings, n_servers));
    judged.extend(overload(findings));
    judged
}

/// Overload judges itself.
fn overload(findings: Findings<'_>) -> Vec<Judged> {
    const GROUP: &str = "Overload";
    let Some(verdicts) = findings.verdicts() else {
        return vec![
            Promise::of(GROUP, "goodput, probes and memory at 2 and 3 times the peak", "90 % of the peak")
                .not_measured(findings.why_not("overload")),
        ];
    };
    let judged = verdicts.into_iter().map(|own| Judged {
        group: GROUP.to_owned(),
        what: own.promise,
        promised: "as said".to_owned(),
        measured: Some(own.measured),
        verdict: if own.is_kept { Verdict::Met } else { Verdict::Missed },
        why: None,
    });
    judged.collect()
}

/// A promise before it is judged.
struct Promise {
    group: String,
    what: String,
    promised: String,
}

impl Promise {
    fn of(group: &str, what: impl Into<String>, promised: impl Into<String>) -> Self {
        Self { group: group.to_owned(), what: what.into(), promised: promised.into() }
    }

    fn judged(self, measured: Option<String>, verdict: Verdict, why: Option<String>) -> Judged {
        Judged { group: self.group, what: self.what, promised: self.promised, measured, verdict, why }
    }

    fn not_measured(self, why: impl Into<String>) -> Judged {
        self.judged(None, Verdict::NotMeasured, Some(why.into()))
    }

    fn refuted(self, measured: Option<String>, why: impl Into<String>) -> Judged {
        self.judged(measured, Verdict::Refuted, Some(why.into()))
    }

    /// Met or missed.
    fn kept(self, is_kept: bool, measured: String) -> Judged {
        self.judged(Some(measured), if is_kept { Verdict::Met } else { Verdict::Missed }, None)
    }
}

impl Judged {
    fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }
}

#[cfg(test)]
mod tests;
