//! Jobs that run until their test lets them end, however long the machine takes over the rest.

use crate::{
    http::receiver::{Receiver, Reply},
    world::World,
};
use serde_json::{Value, json};
use shared::{
    ids::{EndpointId, JobId},
    jobs::JobState,
};
use tokio::sync::watch;

/// A receiver whose answers to all deliveries wait until it is opened.
pub(crate) struct Gate<'a> {
    world: &'a World,
    receiver: Receiver,
    endpoint: EndpointId,
    is_open: watch::Sender<bool>,
}

impl<'a> Gate<'a> {
    pub(crate) async fn new(world: &'a World) -> Self {
        let (is_open, opened) = watch::channel(false);
        let receiver = Receiver::start(move |_| Reply::Held(opened.clone())).await;
        let endpoint = world.endpoint(&receiver.url).await.settings.id;
        Self { world, receiver, endpoint, is_open }
    }

    /// A job that succeeds once the gate is open.
    pub(crate) async fn submit(&self) -> JobId {
        self.world.submit(self.job()).await
    }

    /// The same, when it runs.
    pub(crate) async fn running(&self) -> JobId {
        let id = self.submit().await;
        self.world.until(id, JobState::Running).await;
        id
    }

    fn job(&self) -> Value {
        let target = json!({"type": "http", "endpoint_id": self.endpoint, "timeout_ms": 60_000});
        json!({"kind": "http.request", "payload": {}, "target": target, "retry": {"base_ms": 10, "max_ms": 20}})
    }

    /// Waits until so many attempts of its jobs have come to the gate: none of them ends before it is opened.
    pub(crate) async fn was_reached(&self, n_times: usize) {
        self.receiver.was_reached(n_times).await;
    }

    /// Lets the jobs end, those that run and those that will.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}
