//! One attempt of an import: the file is fetched, parsed and appended at the same time, a little of it at each moment.

use super::{
    ImportTracks, Imported,
    parsing::{self, Batch, Outlet, Tally},
};
use crate::{
    Context, Error, Result,
    files::{self, content::Content},
    ids::UserId,
    points::{append::Appending, depth},
    tracks::manage,
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{thread, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

/// Chunks of the file that are fetched ahead of the parser.
const CHUNKS_AHEAD: usize = 4;
/// Batches that are parsed ahead of the appending.
const BATCHES_AHEAD: usize = 1;
/// Between two looks whether there is room, or Redis is back.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Points that may wait to be stored while an import appends more: a second or two of storing. Whoever sends points meanwhile neither waits
/// long behind those of the import, nor finds the streams full.
const AHEAD_MAX: u64 = 100_000;
/// How long it waits before it says so.
const WAIT_TOLD_AFTER: Duration = Duration::from_secs(1);
/// How long an attempt waits for Redis. After that another one begins anew some time later.
const PATIENCE: Duration = Duration::from_secs(60);

/// Imports the file in the name of `owner_id`, and says how far it is: a percentage, and in words. While many points wait to be stored, it
/// waits as well. An error says how many points were accepted before it; one that is a refusal (`Error::is_refusal`) will be the same
/// the next time.
pub async fn run(ctx: &Context, owner_id: UserId, asked: ImportTracks, progress: impl Fn(f64, &str) + Sync) -> Result<Imported> {
    let content = files::content::open_for_job(ctx, owner_id, asked.file_id).await?;
    let format = asked.format(&content.file)?;
    // A key that may not do with everybody's tracks what an operator may had its one track checked at the submit; of tracks that the file
    // names nobody was asked.
    let for_all = asked.track_id.is_some() && manage::owner_sees_all(ctx, owner_id).await?;
    let mut appender = Appender { ctx, size_bytes: content.file.size_bytes, n_accepted: 0, patience: PATIENCE, progress: &progress };
    let (chunks_in, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let (batches, mut batches_out) = mpsc::channel(BATCHES_AHEAD);
    let empty = {
        let ctx = ctx.clone();
        Box::new(move || Appending::in_name_of(&ctx, owner_id, for_all))
    };
    let (parsed_in, parsed) = oneshot::channel();
    // Not one of the threads for blocking work: the chunks that it waits for are read on those, and as many imports could take them all.
    let parsing = move || drop(parsed_in.send(parsing::parse(asked, format, chunks, Outlet { batches, empty })));
    thread::Builder::new().name("import".to_owned()).spawn(parsing).map_err(Error::internal)?;
    // What fails first drops the ends of both channels, and so ends the thread.
    let moved = tokio::try_join!(fetch(content, chunks_in), async {
        while let Some(batch) = batches_out.recv().await {
            appender.append(batch).await?;
        }
        Ok(())
    });
    let n_accepted = appender.n_accepted;
    let tally = match moved {
        // Its thread ends without a word where it panics.
        Ok(_) => parsed.await.unwrap_or_else(|gone| Err(Error::internal(gone))),
        Err(error) => Err(error),
    };
    let Tally { n_rejected, rejects, .. } = tally.map_err(|error| after(n_accepted, error))?;
    Ok(Imported { format, accepted: n_accepted, rejected: n_rejected, rejects })
}

/// Hands the file to the parser, chunk by chunk, until there is no more or the parser wants no more.
async fn fetch(content: Content, chunks: mpsc::Sender<Bytes>) -> Result<()> {
    let mut stream = content.into_stream();
    while let Some(chunk) = stream.next().await {
        if chunks.send(chunk?).await.is_err() {
            break;
        }
    }
    Ok(())
}

pub(super) struct Appender<'a, P> {
    pub(super) ctx: &'a Context,
    pub(super) size_bytes: u64,
    pub(super) n_accepted: u64,
    /// How long it waits for Redis.
    pub(super) patience: Duration,
    pub(super) progress: &'a P,
}

impl<P: Fn(f64, &str)> Appender<'_, P> {
    pub(super) async fn append(&mut self, mut batch: Batch) -> Result<()> {
        let n_points = batch.appending.n_points() as u64;
        // What comes after the last point may be refusals alone.
        if n_points > 0 {
            self.send(&mut batch).await?;
        }
        self.n_accepted += n_points;
        self.tell(&batch, "");
        Ok(())
    }

    async fn send(&self, batch: &mut Batch) -> Result<()> {
        let most = AHEAD_MAX.min(self.ctx.settings().ingest_max_depth / 2).max(1);
        let (begun, mut redis_away_since) = (Instant::now(), None);
        loop {
            let tried = async {
                // What others found a moment ago may say that there is room. That there is none is asked of Redis itself, which may be away.
                if !depth::is_below(self.ctx, most).await? && depth::look(self.ctx).await? >= most {
                    return Ok(false);
                }
                batch.appending.send(self.ctx).await.map(|()| true)
            };
            let waiting = match tried.await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    redis_away_since = None;
                    ", waits for room"
                }
                Err(error) => {
                    let since = *redis_away_since.get_or_insert_with(Instant::now);
                    if error.is_refusal() || since.elapsed() > self.patience {
                        return Err(error);
                    }
                    ", waits for Redis"
                }
            };
            if begun.elapsed() > WAIT_TOLD_AFTER {
                self.tell(batch, waiting);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn tell(&self, batch: &Batch, waiting: &str) {
        let percent = 100.0 * batch.n_bytes as f64 / self.size_bytes.max(1) as f64;
        (self.progress)(percent, &format!("{} points accepted, {} refused{waiting}", self.n_accepted, batch.n_rejected));
    }
}

fn after(n_accepted: u64, mut error: Error) -> Error {
    if n_accepted > 0 {
        error.detail = format!("{} {n_accepted} points before it were accepted.", error.detail).into();
    }
    error
}
