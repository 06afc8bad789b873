//! Jobs of `durability: "redis"` queues: Redis alone holds them until they end, and their row is first written then.
//!
//! What makes a job volatile is its envelope, not its queue: it carries all that the row needs. So a queue whose durability was
//! changed may hold both kinds. Whoever finds no row for a copy asks here before taking the job for gone.

use super::{
    IDS_MAX, Standing,
    copy::{Enqueue, Envelope, Volatile},
    reconcile,
    scripts::{self, Places, QueueKeys, id_of},
    store::{self, RowStanding},
};
use crate::redis::Connection;
use crate::{
    Context, Error, Result,
    clock::{from_unix_ms, unix_ms},
    ids::{JobId, UserId},
    jobs::{JobKind, JobState, QueueName, RetryPolicy},
};
use serde_json::value::RawValue;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use time::OffsetDateTime;

/// A volatile job as its row will tell of it.
#[derive(Debug, Clone)]
pub struct Record {
    pub owner_id: UserId,
    pub kind: JobKind,
    pub queue: QueueName,
    pub payload: Box<RawValue>,
    pub run_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub timeout_ms: Option<i32>,
    pub retry: RetryPolicy,
    pub tags: Vec<String>,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
    pub created_at: OffsetDateTime,
}

impl Record {
    /// `None`: the job has a row.
    pub(super) fn of(queue: &QueueName, envelope: &Envelope<'_>) -> Option<Self> {
        let Volatile { created_at_ms, tags } = envelope.volatile.as_ref()?;
        Some(Self {
            owner_id: envelope.owner_id,
            kind: JobKind::new(&envelope.kind).ok()?,
            queue: queue.clone(),
            payload: envelope.payload?.to_owned(),
            run_at: from_unix_ms(envelope.run_at_ms)?,
            expires_at: envelope.expires_at(),
            timeout_ms: envelope.timeout_ms,
            retry: envelope.retry(),
            tags: tags.clone(),
            request_id: envelope.request_id.as_deref().map(str::to_owned),
            traceparent: envelope.traceparent.as_deref().map(str::to_owned),
            created_at: from_unix_ms(*created_at_ms)?,
        })
    }

    fn parse(queue: &QueueName, envelope: &[u8]) -> Option<Self> {
        Self::of(queue, &serde_json::from_slice(envelope).ok()?)
    }

    fn into_copy(self, id: JobId, standing: Standing) -> Enqueue {
        Enqueue {
            id,
            owner_id: self.owner_id,
            kind: self.kind,
            standing,
            run_at: self.run_at,
            expires_at: self.expires_at,
            timeout_ms: self.timeout_ms,
            retry: self.retry,
            payload: Some(self.payload),
            request_id: self.request_id,
            traceparent: self.traceparent,
            verify: false,
            volatile: Some(Volatile { created_at_ms: unix_ms(self.created_at), tags: self.tags }),
            concurrency_key: None,
        }
    }
}

/// Those of `ids` whose copies are of volatile jobs.
pub(super) async fn records(connection: &mut Connection, keys: &QueueKeys, ids: &[JobId]) -> Result<HashMap<JobId, Record>> {
    let mut records = HashMap::new();
    for ids in ids.chunks(IDS_MAX) {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(keys.env()).arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        let envelopes: Vec<Option<Vec<u8>>> = cmd.query_async(connection).await?;
        let found = ids.iter().zip(envelopes).filter_map(|(id, envelope)| Some((*id, Record::parse(&keys.queue, &envelope?)?)));
        records.extend(found);
    }
    Ok(records)
}

/// How leased jobs stand: as their rows say; those that have none yet as Redis does.
#[derive(Debug, Default)]
pub(super) struct Stands {
    pub(super) rows: HashMap<JobId, RowStanding>,
    /// Of those that have no row yet.
    pub(super) records: HashMap<JobId, Arc<Record>>,
}

impl Stands {
    /// `leased` are the standings of those of `ids` that have a lease, the lease's attempt counted.
    pub(super) async fn read(ctx: &Context, keys: &QueueKeys, ids: &[JobId], leased: &[(JobId, Standing)]) -> Result<Self> {
        let rows = store::standings(&ctx.pg, ids).await?;
        let mut stands = Self { rows: rows.into_iter().map(|row| (row.id, row)).collect(), records: HashMap::new() };
        let rowless: HashMap<JobId, Standing> = leased.iter().filter(|(id, _)| !stands.rows.contains_key(id)).copied().collect();
        if rowless.is_empty() {
            return Ok(stands);
        }
        let ids: Vec<JobId> = rowless.keys().copied().collect();
        for (id, record) in records(&mut ctx.redis.connection(), keys, &ids).await? {
            stands.rows.insert(id, row_of(id, &record, rowless[&id]));
            stands.records.insert(id, Arc::new(record));
        }
        Ok(stands)
    }
}

/// The row that a leased job would have.
fn row_of(id: JobId, record: &Record, leased: Standing) -> RowStanding {
    RowStanding {
        id,
        state: "pending".to_owned(),
        standing: Standing { attempt: leased.attempt - 1, ..leased },
        nonce: None,
        run_at: record.run_at,
        retry: record.retry,
        // The request is a flag of the lease, which the script acts on when the lease ends.
        is_cancel_requested: false,
        timeout_ms: record.timeout_ms,
    }
}

/// A volatile job that has not ended, as Redis has it.
#[derive(Debug)]
pub struct Live {
    pub record: Record,
    /// What is concluded: a delivery under way is not counted.
    pub standing: Standing,
    pub run_at: OffsetDateTime,
}

/// Looks for the job in `queues`, in one round trip.
pub async fn find(ctx: &Context, queues: &[QueueName], id: JobId) -> Result<Option<Live>> {
    if queues.is_empty() {
        return Ok(None);
    }
    let text = id.to_string();
    let mut pipe = redis::pipe();
    for queue in queues {
        let keys = QueueKeys::new(&ctx.keys, queue);
        pipe.hget(keys.att(), &text).hget(keys.env(), &text).zscore(keys.delayed(), &text);
    }
    type Found = (Option<String>, Option<Vec<u8>>, Option<f64>);
    let found: Vec<redis::Value> = pipe.query_async(&mut ctx.redis.connection()).await?;
    for (queue, parts) in queues.iter().zip(found.chunks_exact(3)) {
        let (copy, envelope, due_ms): Found = redis::from_redis_value(redis::Value::Array(parts.to_vec())).map_err(Error::internal)?;
        let (Some(copy), Some(envelope)) = (copy, envelope) else { continue };
        let Some(record) = Record::parse(queue, &envelope) else { continue };
        let standing: Standing = copy.get(1..).unwrap_or_default().parse()?;
        let n_under_way = i32::from(copy.starts_with('l'));
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970 are whole and fit")]
        let run_at = due_ms.and_then(|ms| from_unix_ms(ms as i64)).unwrap_or(record.run_at);
        return Ok(Some(Live { run_at, record, standing: Standing { attempt: standing.attempt - n_under_way, ..standing } }));
    }
    Ok(None)
}

/// Of copies without a pending row, takes those out that wait rightly: volatile ones whose row is not there yet.
pub(super) async fn spare(ctx: &Context, keys: &QueueKeys, seen: &mut Vec<(JobId, String)>) -> Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let ids: Vec<JobId> = seen.iter().map(|(id, _)| *id).collect();
    let volatile: Vec<JobId> = records(&mut ctx.redis.connection(), keys, &ids).await?.into_keys().collect();
    if volatile.is_empty() {
        return Ok(());
    }
    let ended: HashSet<JobId> = store::standings(&ctx.pg, &volatile).await?.into_iter().map(|row| row.id).collect();
    let spared: HashSet<JobId> = volatile.into_iter().filter(|id| !ended.contains(id)).collect();
    seen.retain(|(id, _)| !spared.contains(id));
    Ok(())
}

/// Places the volatile copies of a queue again whose lists were dropped; returns how many. Their times of retry went with the
/// lists: they are due at once.
pub(super) async fn place_again(ctx: &Context, keys: &QueueKeys) -> Result<u64> {
    let mut connection = ctx.redis.connection();
    let (mut n_placed, mut cursor) = (0, 0_u64);
    loop {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(keys.att()).arg(cursor).arg("COUNT").arg(500);
        let as_of_ms = reconcile::redis_time_ms(&mut connection, keys).await?;
        let (next, flat): (u64, Vec<String>) = cmd.query_async(&mut connection).await?;
        let mut standings = HashMap::new();
        for pair in flat.chunks_exact(2) {
            standings.insert(id_of(&pair[0])?, pair[1].get(1..).unwrap_or_default().parse::<Standing>()?);
        }
        let ids: Vec<JobId> = standings.keys().copied().collect();
        let copies = records(&mut connection, keys, &ids).await?.into_iter().map(|(id, record)| {
            let standing = standings[&id];
            // As if told of the state before: the script then goes by the copy that it finds, and leaves whole leases alone.
            record.into_copy(id, Standing { attempt: (standing.attempt - 1).max(0), ..standing })
        });
        for copies in copies.collect::<Vec<_>>().chunks(IDS_MAX) {
            let n = scripts::enqueue_as_of(&mut connection, keys, copies, Some(as_of_ms), Places::Lost).await?;
            n_placed += n.ok_or_else(|| Error::internal("copies came too late for a rebuild to place them"))?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(n_placed);
        }
    }
}

/// One page of the volatile jobs of a queue that wait; `cursor` 0 starts, and a returned 0 ends.
pub async fn waiting_page(ctx: &Context, queue: &QueueName, cursor: u64) -> Result<(Vec<(JobId, JobState)>, u64)> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let mut connection = ctx.redis.connection();
    let mut cmd = redis::cmd("HSCAN");
    cmd.arg(keys.att()).arg(cursor).arg("COUNT").arg(500);
    let (next, flat): (u64, Vec<String>) = cmd.query_async(&mut connection).await?;
    let mut waiting = HashMap::new();
    for pair in flat.chunks_exact(2).filter(|pair| !pair[1].starts_with('l')) {
        let standing: Standing = pair[1].get(1..).unwrap_or_default().parse()?;
        let state = match (pair[1].starts_with('d'), standing.failures) {
            (true, 0) => JobState::Scheduled,
            (true, _) => JobState::Retrying,
            (false, _) => JobState::Queued,
        };
        waiting.insert(id_of(&pair[0])?, state);
    }
    let ids: Vec<JobId> = waiting.keys().copied().collect();
    let volatile = records(&mut connection, &keys, &ids).await?;
    waiting.retain(|id, _| volatile.contains_key(id));
    Ok((waiting.into_iter().collect(), next))
}

/// How many copies a queue has in Redis, of any kind.
pub async fn n_copies(ctx: &Context, queue: &QueueName) -> Result<u64> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    Ok(redis::cmd("HLEN").arg(keys.att()).query_async(&mut ctx.redis.connection()).await?)
}
