//! The pipe between parent and child: the parent writes a line with a question, the child answers with a line that tells
//! the length, and then so many bytes. The closing of the pipe tells the child that its parent is gone.

use shared::telemetry::{metrics::MetricsHandle, process};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::Mutex,
    time::timeout,
};

const ASK_METRICS: &str = "metrics";
/// How long a child may take to answer; one whose runtime is blocked does not hold up the others' metrics.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// The parent's end.
#[derive(Debug)]
pub(super) struct Pipe(Mutex<(ChildStdin, BufReader<ChildStdout>)>);

impl Pipe {
    pub(super) fn new(stdin: ChildStdin, stdout: ChildStdout) -> Self {
        Self(Mutex::new((stdin, BufReader::new(stdout))))
    }

    /// The child's metrics as text.
    pub(super) async fn ask_metrics(&self) -> io::Result<String> {
        timeout(PATIENCE, self.ask(ASK_METRICS)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn ask(&self, question: &str) -> io::Result<String> {
        let mut ends = self.0.lock().await;
        let (stdin, stdout) = &mut *ends;
        stdin.write_all(format!("{question}\n").as_bytes()).await?;
        let mut header = String::new();
        stdout.read_line(&mut header).await?;
        let length: usize = header.trim().parse().map_err(io::Error::other)?;
        if length > ANSWER_MAX_BYTES {
            return Err(io::Error::other("the answer is too long"));
        }
        let mut answer = vec![0; length];
        stdout.read_exact(&mut answer).await?;
        String::from_utf8(answer).map_err(io::Error::other)
    }
}

/// The child's end: answers until the parent is gone, then returns.
pub async fn serve_parent(metrics: MetricsHandle) {
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    let mut stdout = tokio::io::stdout();
    while let Ok(Some(question)) = questions.next_line().await {
        if question != ASK_METRICS {
            continue;
        }
        process::observe();
        metrics.run_upkeep();
        let text = metrics.render();
        let answered = async {
            stdout.write_all(format!("{}\n{text}", text.len()).as_bytes()).await?;
            stdout.flush().await
        };
        if answered.await.is_err() {
            return;
        }
    }
}
