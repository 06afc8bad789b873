//! What a supervisor and its child say to each other over the child's standard input and output: one JSON document a line, and
//! after some lines so many bytes.
//! Whatever is told says how things stand, not what to change, so that the latest word is all that counts.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use shared::jobs::engine::relay::{BATCH_MAX, Unwritten};
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message that is believed.
const MESSAGE_MAX: u64 = 16 << 20;

/// From the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    Wish(Wish),
    /// The queues to consume, where the settings name none.
    Queues(Vec<String>),
    /// `LOG_LEVEL` was changed to this.
    LogLevel(String),
    /// Asks for [`News::Metrics`].
    Metrics,
    /// What became of [`News::Write`].
    Written {
        batch: u64,
        unwritten: Unwritten,
    },
}

/// What the supervisor wants of a child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// Jobs that it may run at once. A child that was given slots gives them back by itself.
    pub(crate) slots: usize,
    /// Its successor is ready: it goes when it has done what it is there for.
    pub(crate) is_succeeded: bool,
    /// It leases nothing more until told otherwise.
    pub(crate) is_quiet: bool,
}

/// From the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    /// It is connected, and could begin.
    Ready,
    /// It should be replaced soon.
    Ageing(Ageing),
    /// It goes, and keeps so many slots for what it still has to do.
    Keeps(usize),
    /// A queue rang that it does not consume.
    UnknownQueue,
    /// In Prometheus' text form.
    Metrics(String),
    /// Asks for successes to be written; so many bytes follow the line.
    Write { batch: u64, n_bytes: usize },
    /// Spans of traces, in OTLP's JSON, for the supervisor to send.
    Spans(Vec<Box<RawValue>>),
    /// Its last word.
    Farewell(Farewell),
}

/// Why a child is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ageing {
    /// It has run about as many jobs as it may.
    Tasks,
    /// It holds more memory than it may.
    Memory,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Farewell {
    pub(crate) n_done: u64,
    pub(crate) n_failed: u64,
    pub(crate) metrics: String,
}

/// The next message; `None` at the end of the pipe.
pub(crate) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<T>> {
    let mut line = String::new();
    match from.take(MESSAGE_MAX).read_line(&mut line).await? {
        0 => Ok(None),
        _ => serde_json::from_str(&line).map(Some).map_err(io::Error::other),
    }
}

pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    write_with_bytes(to, message, &[]).await
}

/// The bytes that follow a line.
pub(crate) async fn read_bytes(from: &mut (impl AsyncBufRead + Unpin), n_bytes: usize) -> io::Result<Vec<u8>> {
    if n_bytes > BATCH_MAX {
        return Err(io::Error::other("more bytes are announced than there may be"));
    }
    let mut bytes = vec![0; n_bytes];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A line and the bytes that follow it.
pub(crate) async fn write_with_bytes(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
    line.push(b'\n');
    line.extend(bytes);
    to.write_all(&line).await?;
    to.flush().await
}
