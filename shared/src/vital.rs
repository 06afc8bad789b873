//! Tasks that a process cannot do without. A panic in one of them ends the process, to be started anew by whoever watches over it:
//! without the task it would go on answering, and be wrong.

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
