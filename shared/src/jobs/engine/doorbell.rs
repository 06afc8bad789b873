//! The doorbell: hears over pub/sub which queues have something to lease, and whose cancel was asked for.

use super::{held::Held, scripts::id_of};
use crate::{Context, Result, jobs::QueueName};
use futures_util::StreamExt;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// Which queues have rung since they were last asked for. Bounded by the number of queues.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<HashSet<QueueName>>,
    /// Listening has begun, anew perhaps: any queue may have rung before.
    may_have_missed: AtomicBool,
    pub(super) rings: Notify,
}

impl Bell {
    fn ring(&self, queue: QueueName) {
        self.rung.lock().expect("nothing panics while it holds this lock").insert(queue);
        self.rings.notify_one();
    }

    pub fn take(&self) -> HashSet<QueueName> {
        std::mem::take(&mut *self.rung.lock().expect("nothing panics while it holds this lock"))
    }

    fn begin(&self) {
        self.may_have_missed.store(true, Ordering::Relaxed);
        self.rings.notify_one();
    }

    /// Whether rings may have been missed since the last call.
    pub fn take_missed(&self) -> bool {
        self.may_have_missed.swap(false, Ordering::Relaxed)
    }

    /// Waits until a queue has rung, or may have.
    pub async fn rung(&self) {
        self.rings.notified().await;
    }
}

/// Listens for as long as it is polled, and again after every interruption. Whatever rang meanwhile is looked at once it listens.
pub async fn listen(ctx: &Context, bell: &Bell, held: Option<&Arc<Held>>) {
    loop {
        if let Err(error) = listen_once(ctx, bell, held).await {
            tracing::debug!(%error, "the doorbell is away");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn listen_once(ctx: &Context, bell: &Bell, held: Option<&Arc<Held>>) -> Result<()> {
    let mut pubsub = ctx.redis.pubsub().await?;
    pubsub.subscribe(ctx.keys.doorbell()).await?;
    bell.begin();
    if let Some(held) = held {
        held.look.notify_one();
    }
    let mut messages = pubsub.on_message();
    while let Some(message) = messages.next().await {
        let text: String = message.get_payload()?;
        match text.split_once(' ') {
            Some((_, job_id)) => {
                if let Some(held) = held {
                    held.cancel(id_of(job_id)?);
                }
            }
            None => bell.ring(QueueName::new(&text)?),
        }
    }
    Ok(())
}
