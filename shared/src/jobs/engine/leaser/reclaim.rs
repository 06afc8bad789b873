//! Leases that were given to this process by a call whose answer it never got: it does not hold them, and nobody else may have
//! them until they expire. So it looks for them once Redis answers again, and hands them back.

use super::{
    super::{
        Standing,
        salvage::survey,
        scripts::{Action, Finish},
    },
    Leaser,
};

impl Leaser {
    /// To be called between beats: what a beat under way leases is not held yet.
    pub(super) async fn reclaim(&mut self) {
        if self.n_reclaims == 0 {
            return;
        }
        self.n_reclaims -= 1;
        for lane in &mut self.lanes.all {
            let scene = match survey(&mut self.connection, &lane.keys, self.wishes.holder.nonce, &[]).await {
                Ok(scene) => scene,
                Err(error) => return tracing::debug!(%error, "Redis is away again"),
            };
            for left in scene.leases {
                let is_ending = lane.finishes.iter().any(|finish| finish.token == left.token);
                if is_ending || left.started || self.wiring.held.get(left.token).is_some() {
                    continue;
                }
                tracing::info!(job_id = %left.token.job_id, "a lease is handed back: the answer that told of it got lost");
                let standing = Standing { attempt: left.token.attempt - 1, ..left.standing };
                lane.finishes.push_back(Finish { token: left.token, action: Action::Release, standing });
            }
        }
    }
}
