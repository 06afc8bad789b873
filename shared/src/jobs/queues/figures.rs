//! How all queues and workers stand, for metrics: a handful of questions to each server, however many queues there are.

use super::settings::Durability;
use crate::{
    Context, Result,
    clock::from_unix_ms,
    ids::JobId,
    jobs::{QueueName, engine, store, workers},
    telemetry::{
        metrics::{
            JOB_DEAD, JOB_DEPTH, JOB_QUEUE_IN, JOB_QUEUE_LAST_PROCESSED, JOB_QUEUE_OUT, JOB_QUEUE_PAUSED, JOB_QUEUE_STALLED, JOB_READY_AGE,
            JOB_SLOTS, JOB_SLOTS_BUSY, JOB_WORKERS,
        },
        page::Page,
    },
};
use std::collections::HashMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// Dead letters counted at most of one queue.
const DEAD_MAX: i64 = 10_000;
/// Queues that are told apart; of more, operators' and the oldest are, always the same, and the rest is one: each is a dozen series in
/// Prometheus.
const TOLD_MAX: usize = 200;
/// No name that a queue may have.
const OTHER: &str = "(other)";

#[derive(Debug, Clone, Default)]
struct QueueFigures {
    queue: String,
    ready: u64,
    scheduled: u64,
    running: u64,
    dead: u64,
    oldest_ready_age_s: f64,
    n_in: u64,
    n_out: u64,
    last_processed_s: f64,
    is_paused: bool,
    is_stalled: bool,
}

/// Tells how the queues and the workers stand.
pub async fn tell(ctx: &Context, page: &mut Page) -> Result<()> {
    let queues = fold(look(ctx).await?);
    let by_queue = |value: fn(&QueueFigures) -> f64| queues.iter().map(move |figures| ([figures.queue.clone()], value(figures)));
    let states = queues.iter().flat_map(|figures| {
        let states = [("ready", figures.ready), ("scheduled", figures.scheduled), ("running", figures.running)];
        states.map(|(state, n_jobs)| ([figures.queue.clone(), state.to_owned()], count(n_jobs)))
    });
    page.series(JOB_DEPTH, states);
    page.series(JOB_DEAD, by_queue(|figures| count(figures.dead)));
    page.series(JOB_READY_AGE, by_queue(|figures| figures.oldest_ready_age_s));
    // Which queues are the others changes, and their sum would fall: a counter that falls has begun anew, to Prometheus.
    let counted = |value: fn(&QueueFigures) -> u64| {
        let alone = queues.iter().filter(|figures| figures.queue != OTHER);
        alone.map(move |figures| ([figures.queue.clone()], count(value(figures))))
    };
    page.series(JOB_QUEUE_IN, counted(|figures| figures.n_in));
    page.series(JOB_QUEUE_OUT, counted(|figures| figures.n_out));
    page.series(JOB_QUEUE_LAST_PROCESSED, by_queue(|figures| figures.last_processed_s));
    page.series(JOB_QUEUE_PAUSED, by_queue(|figures| f64::from(u8::from(figures.is_paused))));
    page.series(JOB_QUEUE_STALLED, by_queue(|figures| f64::from(u8::from(figures.is_stalled))));
    let workers = workers::alive(ctx).await?;
    page.single(JOB_WORKERS, workers.len());
    page.single(JOB_SLOTS, workers.iter().map(|worker| worker.concurrency).sum::<usize>());
    page.single(JOB_SLOTS_BUSY, workers.iter().map(|worker| worker.counts.active).sum::<usize>());
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "more jobs than that there are not")]
fn count(n: u64) -> f64 {
    n as f64
}

async fn look(ctx: &Context) -> Result<Vec<QueueFigures>> {
    let rows = store::queues::told_queues(&ctx.pg, DEAD_MAX).await?;
    let mut names = Vec::with_capacity(rows.len());
    for row in &rows {
        names.push(QueueName::new(&row.name)?);
    }
    let mut figures = Vec::with_capacity(rows.len());
    for names in names.chunks(engine::IDS_MAX / 10) {
        figures.extend(engine::figures::figures(ctx, names).await?);
    }
    let now = ctx.clock.now();
    let heads: Vec<Uuid> = figures.iter().flat_map(|figures| &figures.heads).map(|id| id.0).collect();
    let due: HashMap<String, OffsetDateTime> =
        if heads.is_empty() { HashMap::new() } else { store::queues::oldest_run_ats(&ctx.pg, &heads).await?.into_iter().collect() };
    let queues = rows.into_iter().zip(figures).map(|(row, of)| {
        let since = match row.durability {
            Durability::Postgres => due.get(&row.name).copied(),
            // It has no row to tell; a delayed one is told older than it is.
            Durability::Redis => of.heads.iter().filter_map(created_at).min(),
        };
        QueueFigures {
            ready: of.depths.queued,
            scheduled: of.depths.scheduled,
            running: of.depths.running,
            dead: row.dead.unsigned_abs(),
            oldest_ready_age_s: since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0)),
            n_in: of.n_in,
            n_out: of.n_out,
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970")]
            last_processed_s: of.last_out_ms as f64 / 1_000.0,
            is_paused: row.paused,
            is_stalled: of.is_stalled,
            queue: row.name,
        }
    });
    Ok(queues.collect())
}

/// An id of ours says when it was made.
fn created_at(id: &JobId) -> Option<OffsetDateTime> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    from_unix_ms(i64::try_from(seconds).ok()? * 1_000 + i64::from(nanos / 1_000_000))
}

/// The first queues, and the rest as one.
fn fold(mut queues: Vec<QueueFigures>) -> Vec<QueueFigures> {
    if queues.len() <= TOLD_MAX {
        return queues;
    }
    let rest = queues.split_off(TOLD_MAX - 1);
    let begin = QueueFigures { queue: OTHER.to_owned(), ..QueueFigures::default() };
    queues.push(rest.into_iter().fold(begin, |sum, one| QueueFigures {
        ready: sum.ready + one.ready,
        scheduled: sum.scheduled + one.scheduled,
        running: sum.running + one.running,
        dead: sum.dead + one.dead,
        oldest_ready_age_s: sum.oldest_ready_age_s.max(one.oldest_ready_age_s),
        n_in: 0,
        n_out: 0,
        last_processed_s: sum.last_processed_s.max(one.last_processed_s),
        is_paused: sum.is_paused || one.is_paused,
        is_stalled: sum.is_stalled || one.is_stalled,
        queue: sum.queue,
    }));
    queues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_queues_than_are_told_the_first_stay_and_the_depth_of_none_is_lost() {
        let queue = |n: usize| QueueFigures { queue: n.to_string(), ready: n as u64, dead: 1, n_in: 1, ..QueueFigures::default() };
        let told = fold((0..=TOLD_MAX).map(queue).collect());
        assert_eq!(told.len(), TOLD_MAX);
        let (first, last) = (&told[0], &told[TOLD_MAX - 1]);
        assert_eq!((first.queue.as_str(), last.queue.as_str(), last.ready, last.n_in), ("0", OTHER, 2 * TOLD_MAX as u64 - 1, 0));
        assert!(QueueName::new(OTHER).is_err(), "no queue is called so");
        assert_eq!(told.iter().map(|figures| figures.dead).sum::<u64>(), TOLD_MAX as u64 + 1);
        assert_eq!(fold((0..3).map(queue).collect()).len(), 3);
    }
}
