//! The leader's firing of schedules: it sleeps until the next one is due, or a schedule was changed.

use shared::{
    Context,
    schedules::{builtin, fire},
};
use std::time::Duration;
use tokio::{sync::Notify, time::timeout};

/// Looks at least so often: a change that was not heard of waits no longer, nor does what is due by a clock that was set.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Fires for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let changed = Notify::new();
    tokio::join!(fire::listen(ctx, || changed.notify_one()), fire_all(ctx, &changed));
}

async fn fire_all(ctx: &Context, changed: &Notify) {
    let mut has_builtin = false;
    loop {
        if !has_builtin {
            has_builtin = builtin::ensure(ctx).await.is_ok();
        }
        let pause = match fire::fire_due(ctx).await {
            Ok(pass) if pass.n_failed == 0 => pass.next_due.map_or(LOOK_EVERY, |due| until(ctx, due)),
            Ok(_) => AGAIN_AFTER,
            Err(error) => {
                tracing::debug!(%error, "schedules wait while PostgreSQL is away");
                AGAIN_AFTER
            }
        };
        if timeout(pause, changed.notified()).await.is_ok() {
            tracing::trace!("a schedule was changed");
        }
    }
}

fn until(ctx: &Context, due: time::OffsetDateTime) -> Duration {
    Duration::try_from(due - ctx.clock.now()).unwrap_or_default().min(LOOK_EVERY)
}
