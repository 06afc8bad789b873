//! The name of everything kept in Redis. No other file spells a key.
//!
//! All keys start with `REDIS_PREFIX`. What belongs to one queue carries its name as hash tag, `{q:<queue>}`, so that a
//! script touches one slot of a cluster; what belongs to one channel is tagged `{c:<channel>}` likewise, what belongs to one user
//! `{u:<user>}`, and what belongs to one shard of points `{points:<n>}`. The `1` is the layout's version: a new layout takes a new number, and an old
//! process beside a new one never reads what it does not know.

use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Pattern of every key of this platform; only tests and `make reset` look by it.
    pub fn everything(&self) -> String {
        format!("{}:*", self.prefix)
    }

    /// Hash of one rate-limit bucket.
    pub fn rate_limit(&self, class: &str, principal: &str) -> String {
        format!("{}:rl:{class}:{{{principal}}}", self.prefix)
    }

    /// Pub/sub channel on which revoked sessions, keys and users are announced.
    pub fn revocations(&self) -> String {
        format!("{}:revocations", self.prefix)
    }

    /// Hash of the running node `node_id`; expires unless its heartbeat goes on.
    pub fn node(&self, node_id: &str) -> String {
        format!("{}:node:{node_id}", self.prefix)
    }

    /// Sorted set of node ids by last heartbeat.
    pub fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// Held by the process that looks at queues and servers for the metrics of all.
    pub fn overview_turn(&self) -> String {
        format!("{}:overview:turn", self.prefix)
    }

    /// What it saw, as metrics in Prometheus' text form.
    pub fn overview(&self) -> String {
        format!("{}:overview", self.prefix)
    }

    /// `<prefix>:{q:<queue>}:1:<part>`: the lists, hashes and sorted sets of one queue. The parts are listed beside the scripts.
    pub fn queue(&self, queue: &str, part: &str) -> String {
        format!("{}:{{q:{queue}}}:1:{part}", self.prefix)
    }

    /// Every key that the job scripts touch of one queue, in the order that all of them take:
    ///
    /// 1. `cfg` hash: run_id of the Redis that the queue was loaded into, rebuilding (there until it is loaded whole), paused, n_leased, n_in and n_out (jobs that came and that ended), last_out (when, in milliseconds)
    /// 2. `env` hash by job id: envelope, what a worker needs beside the counters
    /// 3. `att` hash by job id: place (`r`eady, `d`elayed, `l`eased), then the standing
    /// 4. `tok` hash by job id: the lease, while there is one
    /// 5. `leased` sorted set of job ids by expiry in milliseconds
    /// 6. `delayed` sorted set of job ids by run_at in milliseconds
    /// 7. `watched` sorted set of job ids that somebody waits for, by expiry in milliseconds
    /// 8. `ready:0` to `ready:9`, lists of job ids by priority; entries whose `att` says otherwise are leftovers
    /// 18. `quarantine` list of the suspects (standings with crashes) that are ready: only quarantine children lease from it
    /// 19. `followed` sorted set of job ids whose channel somebody is subscribed to, by expiry in milliseconds
    /// 20. `ckey` hash by job id: its concurrency key, if it has one
    /// 21. `slots` hash by concurrency key: ids of the jobs that took one of its slots, with commas; those whose lease is over hold none
    /// 22. `parked` sorted set, by name: `<concurrency key> NUL <job id>` of ready jobs that wait for a slot
    /// 23. `blocked` sorted set of concurrency keys with parked jobs, by when they are looked at next, in milliseconds
    ///
    /// `cfg` also holds limits (`<concurrency>:<rate>:<per_ms>:<per key>`, absent without any), blocked (there while somebody found no
    /// room), keyed (there once a job with a concurrency key came), keyed_from (before that none of them is leased) and rate_tat (when
    /// the bucket of the rate is full again, in milliseconds).
    pub fn queue_scripts(&self, queue: &str) -> [String; 23] {
        const PARTS: [&str; 23] = [
            "cfg",
            "env",
            "att",
            "tok",
            "leased",
            "delayed",
            "watched",
            "ready:0",
            "ready:1",
            "ready:2",
            "ready:3",
            "ready:4",
            "ready:5",
            "ready:6",
            "ready:7",
            "ready:8",
            "ready:9",
            "quarantine",
            "followed",
            "ckey",
            "slots",
            "parked",
            "blocked",
        ];
        PARTS.map(|part| self.queue(queue, part))
    }

    /// Pub/sub channel that rings when a queue has something to lease: the message is the queue's name. `<queue> <job id>`
    /// asks whoever runs that job to cancel it.
    pub fn doorbell(&self) -> String {
        format!("{}:doorbell", self.prefix)
    }

    /// Pub/sub channel on which it is told that a schedule may be due earlier than it was.
    pub fn schedules(&self) -> String {
        format!("{}:schedules", self.prefix)
    }

    /// Pub/sub channel on which ended jobs are announced to callers that wait for them.
    pub fn job_ends(&self) -> String {
        format!("{}:job-ends", self.prefix)
    }

    /// Pub/sub channel on which events of followed jobs are announced to those who publish them.
    pub fn job_events(&self) -> String {
        format!("{}:job-events", self.prefix)
    }

    /// Held for a moment by the process that publishes the stats of a queue.
    pub fn queue_stats_turn(&self, queue: &str) -> String {
        self.queue(queue, "stats-turn")
    }

    /// Pub/sub channel on which what is published on `channel` is sent.
    pub fn channel(&self, channel: &str) -> String {
        format!("{}:{{c:{channel}}}:1", self.prefix)
    }

    /// The channel whose pub/sub channel this is.
    pub fn channel_of<'a>(&self, pubsub_channel: &'a str) -> Option<&'a str> {
        pubsub_channel.strip_prefix(&*self.prefix)?.strip_prefix(":{c:")?.strip_suffix("}:1")
    }

    /// Hash of a channel's position: `s` offset of its last publication, `e` epoch, `r` run_id of the Redis that counts in it,
    /// `m` when the epoch's first publication that is to be saved came, in milliseconds.
    pub fn channel_meta(&self, channel: &str) -> String {
        self.channel_part(channel, "meta")
    }

    /// Stream of a channel's newest publications: the id is `<offset>-0`, `b` the body, `t` when it was published.
    pub fn channel_history(&self, channel: &str) -> String {
        self.channel_part(channel, "history")
    }

    /// Position that was given to the publication with this idempotency key, `<offset>:<epoch>`. `key_hash` is hexadecimal:
    /// a key of a caller's choice must not make the name of another key of ours.
    pub fn channel_idempotency(&self, channel: &str, key_hash: &str) -> String {
        self.channel_part(channel, &format!("idem:{key_hash}"))
    }

    /// Stream of publications that are not in PostgreSQL yet: `o` offset, `e` epoch, and `b` and `t` as in the history. The id is
    /// `<m>-<offset>`, with `m` of the position's hash, so that offsets are found by it.
    pub fn channel_unsaved(&self, channel: &str) -> String {
        self.channel_part(channel, "unsaved")
    }

    /// What is known of who is subscribed to a channel, in the order that its scripts take: hash of clients, `<length of the user's
    /// id>:<user><info>`; sorted set of clients by expiry in milliseconds; hash of users by how many of the clients are theirs.
    pub fn channel_presence(&self, channel: &str) -> [String; 3] {
        ["presence", "presence:until", "presence:users"].map(|part| self.channel_part(channel, part))
    }

    /// Sorted set of a user's connections, over all processes, by expiry in milliseconds.
    pub fn user_connections(&self, user: &str) -> String {
        format!("{}:{{u:{user}}}:1:connections", self.prefix)
    }

    /// Hash of the channels that the server subscribes a user's connections to, each with what it tells them.
    pub fn user_subscriptions(&self, user: &str) -> String {
        format!("{}:{{u:{user}}}:1:subscriptions", self.prefix)
    }

    /// Sorted set of channels that have, or had lately, publications to be saved, by when they said so in milliseconds.
    pub fn channels_unsaved(&self) -> String {
        format!("{}:channels:unsaved", self.prefix)
    }

    /// Pub/sub channel of orders for connections, which every process hears.
    pub fn channels_control(&self) -> String {
        format!("{}:channels:control", self.prefix)
    }

    /// Pub/sub channel on which one listener sends to itself, to know that it hears.
    pub fn channels_probe(&self, listener: &str) -> String {
        format!("{}:channels:probe:{listener}", self.prefix)
    }

    fn channel_part(&self, channel: &str, part: &str) -> String {
        format!("{}:{{c:{channel}}}:1:{part}", self.prefix)
    }

    /// Stream of points of the tracks of one shard: the field `b` of each entry holds up to a thousand.
    pub fn points_stream(&self, shard: u16) -> String {
        self.points_part(shard, "stream")
    }

    /// How many points the stream of a shard holds.
    pub fn points_depth(&self, shard: u16) -> String {
        self.points_part(shard, "depth")
    }

    /// Hash of the latest point of each track of a shard: when it was recorded in microseconds, in eighteen digits, then its JSON.
    pub fn points_latest(&self, shard: u16) -> String {
        self.points_part(shard, "latest")
    }

    /// Sorted set of the tracks of a shard whose channel somebody is subscribed to, by expiry in milliseconds.
    pub fn points_watched(&self, shard: u16) -> String {
        self.points_part(shard, "watched")
    }

    fn points_part(&self, shard: u16, part: &str) -> String {
        format!("{}:{{points:{shard}}}:1:{part}", self.prefix)
    }

    /// Hash of the circuit breaker of one endpoint or origin. `name` may be of a caller's choice, and is the last part.
    pub fn breaker(&self, name: &str) -> String {
        format!("{}:breaker:{{{name}}}", self.prefix)
    }

    /// Hash of how fast one endpoint is delivered to.
    pub fn pace(&self, name: &str) -> String {
        format!("{}:pace:{{{name}}}", self.prefix)
    }

    /// Hash of worker `worker_id`; expires unless its heartbeat goes on.
    pub fn worker(&self, worker_id: &str) -> String {
        format!("{}:worker:{worker_id}", self.prefix)
    }

    /// List of what worker `worker_id` was told and has not heard yet.
    pub fn worker_orders(&self, worker_id: &str) -> String {
        format!("{}:worker:{worker_id}:orders", self.prefix)
    }

    /// Session of the remote worker `worker_id`, as JSON; expires unless it is heard of.
    pub fn worker_session(&self, worker_id: &str) -> String {
        format!("{}:worker:{worker_id}:session", self.prefix)
    }

    /// Sorted set of worker ids by last heartbeat.
    pub fn workers(&self) -> String {
        format!("{}:workers", self.prefix)
    }
}
