//! Tasks that a process cannot do without. A panic in one of them ends the process, to be started anew by whoever watches over it:
//! without the task it would go on answering, and be wrong.

use crate::telemetry::metrics::APP_ERRORS;
use futures_util::FutureExt;
use std::{future::Future, panic::AssertUnwindSafe, process};

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

/// A panic is caught, and costs a request or an attempt; its place is worth a line of the log, like any other line, and a count.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        metrics::counter!(APP_ERRORS, "kind" => "panic").increment(1);
        tracing::error!(%panic, "a panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_panic_ends_the_process_with_a_code_of_its_own() {
        let ourselves = std::env::current_exe().expect("tests are a program");
        let alone = ["--exact", "vital::tests::panicking", "--ignored", "--nocapture"];
        let ended = Command::new(ourselves).args(alone).output().expect("it starts");
        assert_eq!(ended.status.code(), Some(EXIT_CODE), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    #[tokio::test]
    #[ignore = "ends its process: the test above runs it in another"]
    async fn panicking() {
        vital("test", async { panic!("a mistake") }).await;
    }
}
