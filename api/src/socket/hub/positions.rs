//! Looking whether a channel stands where this thread believes: pub/sub may lose publications without a word, and nothing
//! else would tell as long as nothing more is published.

use super::{Hub, channel::HubChannel};
use crate::socket::connection::Connection;
use actix_web::rt;
use shared::channels::{self, Position, Reader};
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::time::sleep;

/// A publication that Redis has counted may still be on its way to this thread.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// A channel that stands elsewhere than this thread believed.
struct Suspect {
    channel: Rc<HubChannel>,
    believed_epoch: Arc<str>,
    real: Position,
}

impl Hub {
    /// Looks at the channels whose turn it is.
    pub(super) fn check_positions(self: &Rc<Self>) {
        let Some(due) = self.looks.begin(self.now()) else { return };
        let hub = Rc::clone(self);
        rt::spawn(async move {
            let suspects = hub.compare(due).await;
            hub.looks.end();
            if !suspects.is_empty() {
                sleep(ON_ITS_WAY).await;
                for suspect in suspects {
                    suspect.convict();
                }
            }
        });
    }

    async fn compare(&self, due: Vec<Rc<HubChannel>>) -> Vec<Suspect> {
        let names: Vec<_> = due.iter().filter(|channel| channel.followed().is_some()).map(|channel| channel.channel.clone()).collect();
        let Ok(positions) = channels::positions(&self.state.ctx, &Reader::Process, &names).await else {
            due.iter().for_each(|channel| self.looks.retry(self.now(), channel));
            return Vec::new();
        };
        let mut real: std::collections::HashMap<_, _> = names.into_iter().map(|channel| channel.name).zip(positions).collect();
        let mut suspects = Vec::new();
        for channel in due {
            self.looks.enter(self.now(), &channel);
            let real = real.remove(&channel.channel.name).flatten();
            if let Some((believed, real)) = channel.followed().zip(real)
                && (believed.epoch != real.epoch || believed.offset < real.offset)
            {
                suspects.push(Suspect { channel, believed_epoch: believed.epoch, real });
            }
        }
        suspects
    }
}

impl Suspect {
    fn convict(&self) {
        for connection in self.who_missed() {
            connection.fell_behind(&self.channel);
        }
    }

    /// Who follows and has not come to where the channel stood a while ago.
    fn who_missed(&self) -> Vec<Rc<Connection>> {
        match self.channel.followed() {
            Some(now) if now.epoch == self.real.epoch => self.channel.all_behind(self.real.offset),
            Some(now) if now.epoch == self.believed_epoch => self.channel.all_behind(u64::MAX),
            // It has gone on to an epoch of its own since, and those who had to be were told.
            Some(_) | None => Vec::new(),
        }
    }
}
