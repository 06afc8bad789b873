//! From a leased copy to a job that can run: decodes the envelope, and fetches from PostgreSQL what Redis does not carry.

use super::{
    Standing,
    copy::Envelope,
    held::{LeasedJob, Signals},
    scripts::{Finish, Leased, QueueKeys},
    settle::resync,
    store::{self, RowStanding},
    token::{Nonce, Token},
    volatile::Record,
};
use crate::{
    Context,
    clock::from_unix_ms,
    ids::{JobId, UserId},
    jobs::{JobKind, RetryPolicy},
};
use serde_json::value::RawValue;
use std::{collections::HashMap, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// A leased job that may still lack its payload.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) token: Token,
    pub(super) keys: Arc<QueueKeys>,
    pub(super) kind: JobKind,
    pub(super) standing: Standing,
    pub(super) retry: RetryPolicy,
    owner_id: UserId,
    payload: Option<Box<RawValue>>,
    pub(super) run_at: OffsetDateTime,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) timeout: Option<Duration>,
    request_id: Option<String>,
    traceparent: Option<String>,
    verify: bool,
    pub(super) record: Option<Arc<Record>>,
}

impl Draft {
    /// `None`: the copy is unreadable, and the job must be taken from its row again.
    pub(super) fn new(keys: Arc<QueueKeys>, leased: &Leased, nonce: Nonce) -> Option<Self> {
        let envelope: Envelope<'_> = serde_json::from_slice(&leased.envelope).ok()?;
        let record = Record::of(&keys.queue, &envelope).map(Arc::new);
        Some(Self {
            token: Token { job_id: leased.id, attempt: leased.standing.attempt, nonce },
            keys,
            kind: JobKind::new(&envelope.kind).ok()?,
            standing: leased.standing,
            owner_id: envelope.owner_id,
            payload: envelope.payload.map(ToOwned::to_owned),
            run_at: from_unix_ms(envelope.run_at_ms)?,
            expires_at: envelope.expires_at(),
            timeout: envelope.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis),
            retry: envelope.retry(),
            request_id: envelope.request_id.map(Into::into),
            traceparent: envelope.traceparent.map(Into::into),
            verify: envelope.verify,
            record,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.payload.is_some() && !self.verify
    }

    /// The job, if it is complete.
    pub(super) fn into_job(self, signals: Arc<Signals>) -> Option<LeasedJob> {
        Some(LeasedJob {
            token: self.token,
            keys: self.keys,
            kind: self.kind,
            owner_id: self.owner_id,
            standing: self.standing,
            payload: self.payload?,
            run_at: self.run_at,
            expires_at: self.expires_at,
            timeout: self.timeout,
            retry: self.retry,
            request_id: self.request_id,
            traceparent: self.traceparent,
            record: self.record,
            signals,
        })
    }
}

/// What the rows say of drafts.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) complete: Vec<Draft>,
    /// Their row is over, or was concluded at or above this attempt: nothing to run, and Redis takes the row's word.
    pub(super) stale: Vec<Finish>,
}

/// Completes drafts with one query, tried again until PostgreSQL answers or `give_up` fires (then `None`).
pub(super) async fn load(ctx: &Context, drafts: Vec<Draft>, give_up: &CancellationToken) -> Option<Loaded> {
    let mut pause = Duration::from_millis(50);
    let mut drafts = drafts;
    loop {
        match load_once(ctx, drafts).await {
            Ok(loaded) => return Some(loaded),
            Err((error, unloaded)) => {
                tracing::warn!(%error, n_jobs = unloaded.len(), "payloads could not be fetched; their jobs wait");
                drafts = unloaded;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
            () = give_up.cancelled() => return None,
        }
    }
}

async fn load_once(ctx: &Context, drafts: Vec<Draft>) -> Result<Loaded, (sqlx::Error, Vec<Draft>)> {
    let ids: Vec<JobId> = drafts.iter().map(|draft| draft.token.job_id).collect();
    let rows = match store::payloads(&ctx.pg, &ids).await {
        Ok(rows) => rows,
        Err(error) => return Err((error, drafts)),
    };
    let mut rows: HashMap<JobId, (i32, Box<RawValue>)> = rows.into_iter().map(|(id, attempt, payload)| (id, (attempt, payload))).collect();
    let is_live = |draft: &Draft| rows.get(&draft.token.job_id).is_some_and(|(attempt, _)| *attempt < draft.token.attempt);
    let stale_ids: Vec<JobId> = drafts.iter().filter(|draft| !is_live(draft)).map(|draft| draft.token.job_id).collect();
    let standings = match stale_ids[..] {
        // As a rule: after a rebuild every delivery comes this way, and nearly every row is live.
        [] => Vec::new(),
        [..] => match store::standings(&ctx.pg, &stale_ids).await {
            Ok(standings) => standings,
            Err(error) => return Err((error, drafts)),
        },
    };
    let standings: HashMap<JobId, RowStanding> = standings.into_iter().map(|row| (row.id, row)).collect();
    let mut loaded = Loaded::default();
    for mut draft in drafts {
        match rows.remove(&draft.token.job_id) {
            Some((attempt, payload)) if attempt < draft.token.attempt => {
                draft.payload = Some(payload);
                loaded.complete.push(draft);
            }
            Some(_) | None => loaded.stale.push(resync(draft.token, draft.standing, standings.get(&draft.token.job_id))),
        }
    }
    Ok(loaded)
}
