//! What Redis holds of a queue, read back whole; and what must be true of it whatever was called.

use super::{
    apply::Real,
    calls::Job,
    model::{Holder, list_of},
};
use crate::jobs::engine::{QueueKeys, Standing, leases::LeaseText};
use crate::redis::Connection;
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ready,
    Delayed { is_over: bool },
    Leased { holder: Holder, flag: char, is_cancelled: bool, is_over: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) copies: BTreeMap<Job, (Standing, Place)>,
    pub(super) lists: [Vec<Job>; 11],
    pub(super) is_known: bool,
    pub(super) is_paused: bool,
}

/// Which invariants a queue breaks.
pub(super) async fn broken(keys: &QueueKeys, connection: &Connection) -> Vec<String> {
    Parts::read(keys, connection).await.broken()
}

/// The parts as they are, before anything is made of them.
#[derive(Debug, Default)]
struct Parts {
    env: BTreeSet<String>,
    att: BTreeMap<String, String>,
    tok: BTreeMap<String, String>,
    leased: BTreeMap<String, u64>,
    delayed: BTreeMap<String, u64>,
    cfg: HashMap<String, String>,
    lists: Vec<Vec<String>>,
    run_id: String,
}

impl Layout {
    /// Also tells which invariants are broken.
    pub(super) async fn read(real: &Real) -> (Self, Vec<String>) {
        let parts = Parts::read(&real.keys, &real.connection).await;
        let job = |id: &str| real.job_of(id);
        let mut copies = BTreeMap::new();
        for (id, copy) in &parts.att {
            let (place, standing) = copy.split_at(1);
            let place = match place {
                "r" => Place::Ready,
                "d" => Place::Delayed { is_over: parts.delayed.get(id) == Some(&1) },
                _ => real.lease(parts.tok.get(id).map_or("", String::as_str), parts.leased.get(id) == Some(&1)),
            };
            copies.insert(job(id), (standing.parse().unwrap(), place));
        }
        let lists: Vec<Vec<Job>> = parts.lists.iter().map(|list| list.iter().map(|id| job(id)).collect()).collect();
        let layout = Self {
            copies,
            lists: lists.try_into().unwrap(),
            is_known: parts.cfg.get("run_id") == Some(&parts.run_id),
            is_paused: parts.cfg.get("paused").is_some_and(|paused| paused == "1"),
        };
        (layout, parts.broken())
    }
}

impl Parts {
    async fn read(keys: &QueueKeys, connection: &Connection) -> Self {
        let mut pipe = redis::pipe();
        pipe.hkeys(keys.env()).hgetall(keys.att()).hgetall(keys.tok());
        pipe.zrange_withscores(keys.leased(), 0, -1).zrange_withscores(keys.delayed(), 0, -1).hgetall(keys.cfg());
        for list in keys.ready() {
            pipe.lrange(list, 0, -1);
        }
        pipe.lrange(keys.quarantine(), 0, -1).cmd("INFO").arg("server");
        let values: Vec<redis::Value> = pipe.query_async(&mut connection.clone()).await.unwrap();
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap();
        let mut parts = Self {
            env: redis::from_redis_value(next()).unwrap(),
            att: redis::from_redis_value(next()).unwrap(),
            tok: redis::from_redis_value(next()).unwrap(),
            leased: scores(next()),
            delayed: scores(next()),
            cfg: redis::from_redis_value(next()).unwrap(),
            ..Self::default()
        };
        parts.lists = (0..11).map(|_| redis::from_redis_value(next()).unwrap()).collect();
        let info: redis::InfoDict = redis::from_redis_value(next()).unwrap();
        parts.run_id = info.get("run_id").unwrap();
        parts
    }

    /// Each job is in one place, all its parts agree, and nothing is without them.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut expect = |is_so: bool, what: &str| {
            if !is_so {
                broken.push(format!("{what}: {self:?}"));
            }
        };
        let placed =
            |place: char| -> BTreeSet<&String> { self.att.iter().filter(|(_, copy)| copy.starts_with(place)).map(|(id, _)| id).collect() };
        expect(self.env.iter().eq(self.att.keys()), "every copy has its envelope, and every envelope its copy");
        expect(placed('l').into_iter().eq(self.tok.keys()), "every leased copy has its lease, and every lease its copy");
        expect(self.leased.keys().eq(self.tok.keys()), "every lease expires");
        expect(placed('d').into_iter().eq(self.delayed.keys()), "every delayed copy is due at some time");
        for (id, copy) in &self.att {
            let standing: Standing = copy[1..].parse().unwrap();
            // A suspect may still wait for its turn where it stood before.
            let lists = [list_of(standing), usize::try_from(standing.priority).unwrap(), 10];
            let is_listed = lists.iter().any(|list| self.lists[*list].contains(id));
            expect(!copy.starts_with('r') || is_listed, "every ready copy has its turn");
            let is_own = self.tok.get(id).is_none_or(|lease| LeaseText::parse(lease).unwrap().attempt == standing.attempt);
            expect(is_own, "a lease is of the attempt that its copy says");
        }
        broken
    }
}

fn scores(value: redis::Value) -> BTreeMap<String, u64> {
    let pairs: Vec<(String, f64)> = redis::from_redis_value(value).unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since 1970")]
    pairs.into_iter().map(|(id, score)| (id, score as u64)).collect()
}
