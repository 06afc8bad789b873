//! What a child is told: by signals, and by its supervisor over the pipe on standard input. The end of that pipe means that
//! the supervisor is gone, however it died; a child never outlives it.

use shared::{Error, Result, telemetry};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// TSTP: lease nothing more.
    Quiet,
    /// TERM: finish what runs, then end; a second one is [`Order::Cold`].
    Warm,
    /// QUIT, or the supervisor is gone: end now.
    Cold,
}

/// Signals and the supervisor's pipe as one stream.
#[derive(Debug)]
pub(super) struct Orders {
    quiet: Signal,
    warm: Signal,
    cold: Signal,
    supervisor_gone: mpsc::Receiver<()>,
}

impl Orders {
    pub(super) fn listen() -> Result<Self> {
        let on = |kind: SignalKind| signal(kind).map_err(Error::internal);
        let (gone, supervisor_gone) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(error) = answer_supervisor().await {
                tracing::debug!(%error, "the pipe to the supervisor broke");
            }
            let _ = gone.send(()).await;
        });
        Ok(Self {
            quiet: on(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            warm: on(SignalKind::terminate())?,
            cold: on(SignalKind::quit())?,
            supervisor_gone,
        })
    }

    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            Some(()) = self.quiet.recv() => Order::Quiet,
            Some(()) = self.warm.recv() => Order::Warm,
            Some(()) = self.cold.recv() => Order::Cold,
            Some(()) = self.supervisor_gone.recv() => Order::Cold,
            else => std::future::pending().await,
        }
    }
}

/// Answers each line `metrics` with `<length>\n<text>`; returns at the end of the pipe.
async fn answer_supervisor() -> std::io::Result<()> {
    let recorder = telemetry::metrics::install();
    tokio::spawn(telemetry::metrics::keep_up(recorder.clone()));
    let mut lines = BufReader::new(stdin()).lines();
    let mut out = stdout();
    while let Some(line) = lines.next_line().await? {
        if line == "metrics" {
            telemetry::process::observe();
            let text = recorder.render();
            out.write_all(format!("{}\n", text.len()).as_bytes()).await?;
            out.write_all(text.as_bytes()).await?;
            out.flush().await?;
        }
    }
    Ok(())
}
