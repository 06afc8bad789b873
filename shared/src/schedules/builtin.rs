//! The platform's own schedules. The leader makes those that are missing: to be rid of one, pause it.

use super::{Overlap, Schedule, ScheduledJob, store};
use crate::{Context, Result, ids::ScheduleId};
use serde_json::value::RawValue;
use time::Duration;

/// Shows once a minute that jobs are run at all; in a queue of its own, where it gets in nobody's way.
const HEARTBEAT: (&str, &str, Duration) = ("system.heartbeat", "system", Duration::minutes(1));

/// Makes the platform's schedules, unless they are there.
pub async fn ensure(ctx: &Context) -> Result<()> {
    let (kind, queue, every) = HEARTBEAT;
    let now = ctx.clock.now();
    let schedule = Schedule {
        id: ScheduleId::new(),
        name: kind.to_owned(),
        kind: kind.to_owned(),
        queue: queue.to_owned(),
        payload: RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"),
        job: ScheduledJob::default(),
        target_origin: None,
        cron: None,
        every_ms: i64::try_from(every.whole_milliseconds()).ok(),
        timezone: "UTC".to_owned(),
        overlap: Overlap::Skip,
        catch_up: false,
        paused: false,
        next_run_at: Some(now + every),
        last_run_at: None,
        last_job_id: None,
        last_error: None,
        owner_id: None,
        created_at: now,
    };
    store::insert(&ctx.pg, &schedule).await?;
    Ok(())
}
