//! Taking one job out of the race from outside a worker.

use super::{CANCEL, Holder, QueueKeys, run, whole_ms};
use crate::redis::Connection;
use crate::{
    Error, Result,
    ids::JobId,
    jobs::engine::{copy::Standing, token::Token},
};

/// What [`take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The waiting copy is leased to the caller.
    Taken(Token, Standing),
    /// A worker has it; it has been told, if that was asked for.
    Running,
    /// Its outcome is being written.
    Settling,
    Absent,
}

/// Why a copy is taken out of the race.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its cancel is about to be written; a running job is told to stop.
    Cancel,
    /// Its row is about to be deleted; a running job is left alone, and the copy goes back unspent if the caller dies.
    Delete,
}

/// Leases one waiting copy to the caller.
pub(in crate::jobs::engine) async fn take(
    connection: &mut Connection,
    keys: &QueueKeys,
    holder: &Holder,
    job_id: JobId,
    purpose: Purpose,
) -> Result<Taken> {
    let (flag, doorbell) = match purpose {
        Purpose::Cancel => ("s", keys.doorbell.as_str()),
        Purpose::Delete => ("l", ""),
    };
    let mut cmd = keys.call(&CANCEL);
    cmd.arg(job_id.to_string()).arg(holder.nonce.to_string()).arg(&holder.worker_id).arg(whole_ms(holder.lease));
    cmd.arg(flag).arg(doorbell).arg(keys.queue.as_str());
    let answer: Vec<String> = run(connection, &CANCEL, &cmd).await?;
    match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["taken", standing] => {
            let standing: Standing = standing.parse()?;
            Ok(Taken::Taken(Token { job_id, attempt: standing.attempt, nonce: holder.nonce }, standing))
        }
        ["running"] => Ok(Taken::Running),
        ["settling"] => Ok(Taken::Settling),
        ["absent"] => Ok(Taken::Absent),
        _ => Err(Error::internal(format!("cancel.lua answered {answer:?}"))),
    }
}
