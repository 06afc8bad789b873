//! Tasks that a process cannot do without, and what a panic in one of them means. Where the task cannot begin anew, the process ends, to be started
//! by whoever watches over it: without the task it would go on answering, and be wrong.

use crate::telemetry::metrics::APP_ERRORS;
use futures_util::FutureExt;
use std::{future::Future, panic::AssertUnwindSafe, process, time::Duration};
use tokio::time::sleep;

/// Exit code of a process that lost such a task: a mistake of ours (EX_SOFTWARE).
const EXIT_CODE: i32 = 70;

/// `task`, whose panic ends the process.
pub async fn vital<F: Future>(name: &'static str, task: F) -> F::Output {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(output) => output,
        Err(_) => {
            tracing::error!(task = name, "a task that nothing goes right without has panicked: the process ends");
            process::exit(EXIT_CODE);
        }
    }
}

/// Before a task that panicked begins anew: what it stumbles over each time does not keep a thread busy.
const PAUSE: Duration = Duration::from_secs(1);

/// A task that begins anew after a panic: it has nothing in hand that others wait for.
pub async fn steadily<F: Future<Output = ()>>(name: &'static str, task: impl FnMut() -> F) {
    beginning_anew(name, PAUSE, task).await;
}

async fn beginning_anew<F: Future<Output = ()>>(name: &'static str, pause: Duration, mut task: impl FnMut() -> F) {
    // The call as well as what it returns.
    while AssertUnwindSafe(async { task().await }).catch_unwind().await.is_err() {
        tracing::error!(task = name, "a task has panicked, and begins anew");
        sleep(pause).await;
    }
}

/// A panic is caught, and costs a request or an attempt; its place is worth a line of the log, like any other line, and a count.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        metrics::counter!(APP_ERRORS, "kind" => "panic").increment(1);
        tracing::error!(%panic, "a panic");
    }));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::{cell::Cell, process::Command};

    #[tokio::test]
    async fn what_panics_begins_anew() {
        let n_runs = Cell::new(0);
        let run = || async {
            n_runs.set(n_runs.get() + 1);
            assert!(n_runs.get() > 2, "one that it stumbles over");
        };
        beginning_anew("test", Duration::ZERO, run).await;
        assert_eq!(n_runs.get(), 3);
    }

    /// Runs `test` in a process of its own, which a vital task ends.
    pub(crate) fn assert_ends_its_process(test: &str) {
        let ourselves = std::env::current_exe().expect("tests are a program");
        let ended = Command::new(ourselves).args(["--exact", test, "--ignored", "--nocapture"]).output().expect("it starts");
        assert_eq!(ended.status.code(), Some(EXIT_CODE), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    #[test]
    fn a_panic_ends_the_process_with_a_code_of_its_own() {
        assert_ends_its_process("vital::tests::panicking");
    }

    #[tokio::test]
    #[ignore = "ends its process: the test above runs it in another"]
    async fn panicking() {
        vital("test", async { panic!("a mistake") }).await;
    }
}
