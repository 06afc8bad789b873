//! Failures that come in crowds are logged a few at a time: while a server is away, or more comes than can be done, each request
//! would have a line, and writing them would cost more than answering.

use shared::{Code, Error};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Lines of a worker thread in each [`PERIOD`], over all such codes.
const LINES_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

thread_local! {
    static PERIOD_OF: Cell<Option<Instant>> = const { Cell::new(None) };
    static LINES: Cell<u32> = const { Cell::new(0) };
}

/// Logs a failure of ours, with its cause.
pub(super) fn log(error: &Error) {
    let code = error.code.as_str();
    // Nobody's to mend: limits that do what they are for, and a process that stops. Metrics count it.
    if matches!(error.code, Code::Overloaded | Code::IngestFull | Code::Draining) {
        tracing::debug!(code, %error, "request refused for now");
        return;
    }
    let comes_in_crowds = matches!(error.code, Code::DatabaseUnavailable | Code::RedisUnavailable | Code::StorageUnavailable);
    let n_before = if comes_in_crowds { lines_before() } else { 0 };
    if n_before < LINES_MAX {
        tracing::error!(code, %error, "request failed");
    } else if n_before == LINES_MAX {
        tracing::warn!("more requests fail; those of this second are counted in app_errors_total and not logged");
    }
}

/// Lines of this period so far; this one is one more.
fn lines_before() -> u32 {
    let now = Instant::now();
    if PERIOD_OF.get().is_none_or(|begun| now.saturating_duration_since(begun) >= PERIOD) {
        PERIOD_OF.set(Some(now));
        LINES.set(0);
    }
    LINES.replace(LINES.get().saturating_add(1))
}
