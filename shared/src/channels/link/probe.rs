//! Whether the connection still hears: now and then the process publishes to itself over its other connection. A socket can stand
//! for hours after its server went, or was replaced by another that publications now go to.

use super::Probing;
use crate::Context;
use tokio::{task::JoinHandle, time::Instant};

#[derive(Debug)]
enum State {
    /// Nothing is due before this.
    Idle { until: Instant },
    /// Published, if that succeeds.
    Sending(JoinHandle<bool>),
    /// Redis has taken it; it must be heard before this.
    Sent { deadline: Instant },
}

#[derive(Debug)]
pub(super) struct Probe {
    probing: Probing,
    pub(super) channel: String,
    verb: &'static str,
    state: State,
}

impl Probe {
    /// `verb` publishes on `channel`.
    pub(super) fn new(channel: String, verb: &'static str, probing: Probing) -> Self {
        Self { probing, channel, verb, state: State::Idle { until: Instant::now() + probing.every } }
    }

    pub(super) fn heard(&mut self) {
        self.state = State::Idle { until: Instant::now() + self.probing.every };
    }

    /// Goes on as time has; `true` when what was sent should have been heard by now.
    pub(super) async fn is_overdue(&mut self, ctx: &Context) -> bool {
        let now = Instant::now();
        match &mut self.state {
            State::Idle { until } if *until <= now => self.state = State::Sending(self.send(ctx)),
            State::Sending(sending) if sending.is_finished() => {
                let is_sent = sending.await.unwrap_or(false);
                // While Redis takes nothing there is nothing to be missed.
                let idle = State::Idle { until: now };
                self.state = if is_sent { State::Sent { deadline: now + self.probing.patience } } else { idle };
            }
            State::Sent { deadline } => return *deadline <= now,
            State::Idle { .. } | State::Sending(_) => {}
        }
        false
    }

    fn send(&self, ctx: &Context) -> JoinHandle<bool> {
        let (mut connection, channel, verb) = (ctx.redis.connection(), self.channel.clone(), self.verb);
        tokio::spawn(async move { redis::cmd(verb).arg(channel).arg("").exec_async(&mut connection).await.is_ok() })
    }
}
