//! The calls of those who repair a queue: the reconciler, and whoever makes a Redis known.

use super::{MEND, QueueKeys, REMOVE, RESTORE, run};
use crate::redis::Connection;
use crate::{Result, ids::JobId, jobs::engine::limits::Limits};
use std::time::Duration;

/// Removes waiting copies that still are as they were seen; returns how many.
pub(in crate::jobs::engine) async fn remove(connection: &mut Connection, keys: &QueueKeys, seen: &[(JobId, String)]) -> Result<u64> {
    let mut cmd = keys.call(&REMOVE);
    for (id, copy) in seen {
        cmd.arg(id.to_string()).arg(copy);
    }
    run(connection, &REMOVE, &cmd).await
}

/// Gives leased copies that lack a part of their lease to the sweep, or to the next pass over the rows, and drops leases without a
/// copy; returns how many.
pub(in crate::jobs::engine) async fn mend(connection: &mut Connection, keys: &QueueKeys, ids: &[JobId]) -> Result<u64> {
    let mut cmd = keys.call(&MEND);
    for id in ids {
        cmd.arg(id.to_string());
    }
    run(connection, &MEND, &cmd).await
}

/// Drops the order in which copies wait; they must all be placed again, with [`super::Places::Lost`].
pub(in crate::jobs::engine) async fn forget_places(connection: &mut Connection, keys: &QueueKeys) -> Result<()> {
    Ok(redis::cmd("UNLINK")
        .arg(keys.delayed())
        .arg(keys.ready())
        .arg(keys.quarantine())
        .arg(keys.waiting_for_slots())
        .exec_async(connection)
        .await?)
}

/// Rings for a queue that has something to lease.
pub(in crate::jobs::engine) async fn ring(connection: &mut Connection, keys: &QueueKeys) -> Result<()> {
    Ok(redis::cmd("PUBLISH").arg(&keys.doorbell).arg(keys.queue.as_str()).exec_async(connection).await?)
}

/// Makes this Redis known to a queue. Jobs with a concurrency key wait for `keyed_wait`.
pub(in crate::jobs::engine) async fn restore(
    connection: &mut Connection,
    keys: &QueueKeys,
    is_paused: bool,
    limits: &Limits,
    keyed_wait: Duration,
) -> Result<()> {
    let mut cmd = keys.call(&RESTORE);
    cmd.arg(i32::from(is_paused)).arg(&keys.doorbell).arg(keys.queue.as_str());
    cmd.arg(limits.text()).arg(super::whole_ms(keyed_wait));
    run(connection, &RESTORE, &cmd).await
}

/// Notes that a queue is complete in this Redis.
pub(in crate::jobs::engine) async fn rebuilt(connection: &mut Connection, keys: &QueueKeys) -> Result<()> {
    Ok(redis::cmd("HDEL").arg(keys.cfg()).arg("rebuilding").exec_async(connection).await?)
}
