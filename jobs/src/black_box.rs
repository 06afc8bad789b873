//! The black box of a child: which attempts run in it, written where its supervisor finds it however the child ends.
//!
//! It is a file in memory, made by the supervisor and gone with it, with one record of fixed size per slot. A record is written
//! before its handler is called, by one system call that costs about a microsecond; whatever the handler then does to its
//! process, the record stands. Records of slots that fell idle are wiped a moment later, not by each attempt.

use nix::sys::memfd::{MFdFlags, memfd_create};
use shared::{
    clock::{from_unix_ms, unix_ms},
    ids::JobId,
    jobs::{
        QueueName,
        engine::{
            held::{LeasedJob, StopReason},
            salvage::Running,
        },
        names::NAME_MAX,
    },
};
use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Bytes of a record: length of the queue's name (0: nothing runs in this slot), its bytes, then id, attempt, start and limit.
const RECORD: usize = 144;
const NAME_AT: usize = 1;
const ID_AT: usize = NAME_AT + NAME_MAX + 3;
const ATTEMPT_AT: usize = ID_AT + 16;
const STARTED_AT: usize = ATTEMPT_AT + 4;
const LIMIT_AT: usize = STARTED_AT + 8;
const _: () = assert!(LIMIT_AT + 8 <= RECORD, "a record holds all of its fields");

fn encode(running: &Running) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let name = running.queue.as_str().as_bytes();
    record[0] = u8::try_from(name.len()).expect("a name is at most 100 bytes");
    record[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
    record[ID_AT..ID_AT + 16].copy_from_slice(running.job_id.0.as_bytes());
    record[ATTEMPT_AT..ATTEMPT_AT + 4].copy_from_slice(&running.attempt.to_le_bytes());
    record[STARTED_AT..STARTED_AT + 8].copy_from_slice(&unix_ms(running.started_at).to_le_bytes());
    let limit_ms = running.limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
    record[LIMIT_AT..LIMIT_AT + 8].copy_from_slice(&limit_ms.to_le_bytes());
    record
}

/// `None`: nothing runs in this slot.
fn decode(record: &[u8]) -> Option<Running> {
    let bytes = |at: usize, n: usize| record.get(at..at + n);
    let name = bytes(NAME_AT, usize::from(*record.first()?).min(NAME_MAX))?;
    let limit_ms = u64::from_le_bytes(bytes(LIMIT_AT, 8)?.try_into().ok()?);
    Some(Running {
        queue: QueueName::new(std::str::from_utf8(name).ok()?).ok()?,
        job_id: JobId(Uuid::from_slice(bytes(ID_AT, 16)?).ok()?),
        attempt: i32::from_le_bytes(bytes(ATTEMPT_AT, 4)?.try_into().ok()?),
        started_at: from_unix_ms(i64::from_le_bytes(bytes(STARTED_AT, 8)?.try_into().ok()?))?,
        limit: (limit_ms > 0).then(|| Duration::from_millis(limit_ms)),
    })
}

/// The supervisor's end.
#[derive(Debug)]
pub struct BlackBox(File);

impl BlackBox {
    pub fn new() -> io::Result<Self> {
        Ok(Self(File::from(memfd_create(c"millrace-black-box", MFdFlags::MFD_CLOEXEC)?)))
    }

    /// Where a child opens it, for as long as this process has it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }

    /// What runs, or ran until the child ended.
    pub fn running(&self) -> io::Result<Vec<Running>> {
        let length = usize::try_from(self.0.metadata()?.len()).map_err(io::Error::other)?;
        let mut records = vec![0; length];
        self.0.read_exact_at(&mut records, 0)?;
        Ok(records.chunks_exact(RECORD).filter_map(decode).collect())
    }
}

/// The child's end.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    /// By slot: what is recorded there, and is running unless the slot is idle.
    recorded: Vec<Option<(Running, Arc<LeasedJob>)>>,
    /// The one that fell idle last is taken first, so that few records need wiping.
    idle: Vec<usize>,
}

/// An attempt that is on record until this is dropped.
#[derive(Debug)]
pub struct OnRecord {
    recorder: Arc<Recorder>,
    slot: usize,
}

impl Drop for OnRecord {
    fn drop(&mut self) {
        self.recorder.lock().idle.push(self.slot);
    }
}

impl Recorder {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().write(true).open(path)?, slots: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().expect("nothing panics while it holds this lock")
    }

    /// Puts an attempt on record; to be done before its handler is called.
    pub fn begin(self: &Arc<Self>, job: &Arc<LeasedJob>, started_at: OffsetDateTime, limit: Option<Duration>) -> OnRecord {
        let running = Running { queue: job.keys.queue.clone(), job_id: job.id(), attempt: job.token.attempt, started_at, limit };
        let record = encode(&running);
        let mut slots = self.lock();
        let slot = slots.idle.pop().unwrap_or(slots.recorded.len());
        if slot == slots.recorded.len() {
            slots.recorded.push(None);
        }
        slots.recorded[slot] = Some((running, Arc::clone(job)));
        drop(slots);
        self.write(slot, &record);
        OnRecord { recorder: Arc::clone(self), slot }
    }

    /// Wipes the records of slots that fell idle, and shortens the limit of attempts that were to stop `grace` after their cancel.
    pub fn tidy(&self, now: OffsetDateTime, grace: Duration) {
        let mut guard = self.lock();
        let slots = &mut *guard;
        for slot in &slots.idle {
            if slots.recorded[*slot].take().is_some() {
                self.write(*slot, &[0; RECORD]);
            }
        }
        for (slot, recorded) in slots.recorded.iter_mut().enumerate() {
            let Some((running, job)) = recorded else { continue };
            let ran: Duration = (now - running.started_at).try_into().unwrap_or_default();
            if job.signals.reason() == Some(StopReason::Cancelled) && running.limit.is_none_or(|limit| limit > ran + grace) {
                running.limit = Some(ran + grace);
                self.write(slot, &encode(running));
            }
        }
    }

    fn write(&self, slot: usize, record: &[u8; RECORD]) {
        if let Err(error) = self.file.write_all_at(record, (slot * RECORD) as u64) {
            tracing::error!(%error, "the black box cannot be written; if this process crashes, what runs in it counts as lost");
        }
    }
}

#[cfg(test)]
mod tests;
