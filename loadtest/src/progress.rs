//! Progress bars, drawn on a terminal only: one for a command of several runs, two for one of several parts.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// Two bars for a command of many parts: all of it, and the part that runs.
#[derive(Debug)]
pub(crate) struct PartsDisplay {
    expected: Vec<Duration>,
    whole: ProgressBar,
    part: ProgressBar,
    /// Time of the parts before the one that runs.
    before: std::cell::Cell<Duration>,
    running: std::cell::Cell<usize>,
}

impl PartsDisplay {
    pub(crate) fn new(expected: Vec<Duration>, visibility: Visibility) -> Self {
        let bars = MultiProgress::with_draw_target(match visibility {
            Visibility::Terminal => ProgressDrawTarget::stderr(),
            Visibility::Hidden => ProgressDrawTarget::hidden(),
        });
        let style = ProgressStyle::with_template("{prefix:10} [{bar:32}] {percent:>3} % {msg}")
            .expect("the template is a constant")
            .progress_chars("=> ");
        let bar = |prefix: &'static str, time: Duration| {
            let bar = bars.add(ProgressBar::new(in_ms(time)).with_style(style.clone()));
            bar.set_prefix(prefix);
            bar
        };
        let whole = bar("all", expected.iter().sum());
        let part = bar("this part", Duration::from_secs(1));
        Self { expected, whole, part, before: std::cell::Cell::default(), running: std::cell::Cell::default() }
    }

    pub(crate) fn begin(&self, part_idx: usize, title: &'static str) {
        self.running.set(part_idx);
        self.part.set_length(in_ms(self.expected[part_idx]));
        self.part.set_position(0);
        self.part.set_message(title);
        self.whole.set_message(format!("part {} of {}", part_idx + 1, self.expected.len()));
    }

    /// A part that takes longer than expected stands still at its end.
    pub(crate) fn advance(&self, elapsed: Duration) {
        let elapsed = elapsed.min(self.expected[self.running.get()]);
        self.part.set_position(in_ms(elapsed));
        self.whole.set_position(in_ms(self.before.get() + elapsed));
    }

    pub(crate) fn end(&self, title: &str, failure: Option<&str>) {
        self.before.set(self.before.get() + self.expected[self.running.get()]);
        self.whole.set_position(in_ms(self.before.get()));
        let mark = failure.map_or_else(|| "done  ".to_owned(), |failure| format!("FAILED ({failure})"));
        self.whole.println(format!("{mark} {title}"));
    }

    pub(crate) fn finish(&self) {
        self.part.finish_and_clear();
        self.whole.finish_and_clear();
    }
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    Terminal,
    Hidden,
}
