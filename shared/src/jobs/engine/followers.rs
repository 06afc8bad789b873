//! Jobs whose channel somebody is subscribed to: their marks, which the scripts look at, and what is announced beside the scripts.

use super::{
    IDS_MAX,
    scripts::{self, QueueKeys},
};
use crate::{Context, Result, ids::JobId, jobs::QueueName};
use redis::Script;
use std::{sync::LazyLock, time::Duration};

static FOLLOW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("follow.lua")));

/// Asks the scripts to announce what happens to these jobs, for as long as `ttl`.
pub async fn follow(ctx: &Context, queue: &QueueName, ids: &[JobId], ttl: Duration) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    for ids in ids.chunks(IDS_MAX) {
        let mut cmd = keys.call(&FOLLOW);
        cmd.arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        cmd.arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        let () = scripts::run(&mut ctx.redis.connection(), &FOLLOW, &cmd).await?;
    }
    Ok(())
}

/// Whether the job is followed now, as far as its marks tell: they may outlast those who asked by a moment.
pub async fn is_followed(ctx: &Context, keys: &QueueKeys, id: JobId) -> Result<bool> {
    let mut cmd = redis::cmd("ZSCORE");
    let mark: Option<f64> = cmd.arg(keys.followed()).arg(id.to_string()).query_async(&mut ctx.redis.connection()).await?;
    Ok(mark.is_some())
}

/// Announces those of these lines whose jobs are followed.
pub async fn tell(ctx: &Context, queue: &QueueName, lines: &[(JobId, String)]) -> Result<()> {
    let (keys, mut connection) = (QueueKeys::new(&ctx.keys, queue), ctx.redis.connection());
    for lines in lines.chunks(IDS_MAX) {
        let mut asked = redis::cmd("ZMSCORE");
        asked.arg(keys.followed()).arg(lines.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>());
        let marks: Vec<Option<f64>> = asked.query_async(&mut connection).await?;
        for ((_, line), _) in lines.iter().zip(marks).filter(|(_, mark)| mark.is_some()) {
            redis::cmd("PUBLISH").arg(keys.job_events()).arg(line).exec_async(&mut connection).await?;
        }
    }
    Ok(())
}
