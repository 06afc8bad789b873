//! The progress bar: one for the whole command, drawn on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far the runs of a command are.
#[derive(Debug)]
pub(crate) struct ProgressDisplay {
    bar: ProgressBar,
    n_runs: u32,
    runs_done: u32,
    run_ms: u64,
}

impl ProgressDisplay {
    /// A bar for `n_runs` runs of `run_time` each; not drawn when hidden or without a terminal.
    pub(crate) fn new(n_runs: u32, run_time: Duration, visibility: Visibility) -> Self {
        let target = match visibility {
            Visibility::Terminal => ProgressDrawTarget::stderr(),
            Visibility::Hidden => ProgressDrawTarget::hidden(),
        };
        let run_ms = u64::try_from(run_time.as_millis()).unwrap_or(u64::MAX);
        let total_ms = run_ms.saturating_mul(u64::from(n_runs));
        let bar = ProgressBar::with_draw_target(Some(total_ms), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:32}] {percent:>3} % {msg}")
            .expect("the template is a constant")
            .progress_chars("=> ");
        bar.set_style(style);
        Self { bar, n_runs, runs_done: 0, run_ms }
    }

    pub(crate) fn begin_run(&self, label: &str) {
        let run = self.runs_done + 1;
        self.bar.set_prefix(format!("run {run}/{}", self.n_runs));
        self.phase(label, "connecting");
    }

    /// Says what goes on before there are figures.
    pub(crate) fn phase(&self, label: &str, phase: &str) {
        self.bar.set_message(format!("{label}: {phase}"));
    }

    pub(crate) fn update(&self, label: &str, elapsed: Duration, per_second: f64) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let before_ms = u64::from(self.runs_done) * self.run_ms;
        self.bar.set_position(before_ms + elapsed_ms.min(self.run_ms));
        self.bar.set_message(format!("{label}: {per_second:.0}/s"));
    }

    /// The same where nobody counts answers before the end.
    pub(crate) fn advance(&self, label: &str, elapsed: Duration) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.bar.set_position(u64::from(self.runs_done) * self.run_ms + elapsed_ms.min(self.run_ms));
        self.bar.set_message(format!("{label}: sending"));
    }

    pub(crate) fn end_run(&mut self) {
        self.runs_done += 1;
        self.bar.set_position(u64::from(self.runs_done) * self.run_ms);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    Terminal,
    Hidden,
}
