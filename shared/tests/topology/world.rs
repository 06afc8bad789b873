//! What the tests are built with: several servers, a context on them, and waiting for a condition.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{FromRedisValue, RedisResult, aio::MultiplexedConnection};
use shared::{
    Context,
    redis::Connection,
    testing::{RedisTopology, TestStores, server_of},
};
use std::time::Duration;

/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) topology: RedisTopology,
    _stores: TestStores,
}

impl World {
    pub(crate) async fn new(topology: RedisTopology) -> Self {
        let mut stores = TestStores::create().await;
        stores.use_redis_url(topology.url());
        Self { ctx: stores.context(&[]), topology, _stores: stores }
    }

    pub(crate) fn connection(&self) -> Connection {
        self.ctx.redis.connection()
    }

    /// The process that takes writes for `key`.
    pub(crate) async fn master_of(&self, key: &str) -> i32 {
        server_of(&self.ctx.redis, key).await.unwrap().get("process_id").unwrap()
    }

    pub(crate) async fn until_replaced(&self, key: &str, before: i32) {
        until("another is master", async || {
            server_of(&self.ctx.redis, key).await.is_ok_and(|info| info.get::<i32>("process_id").is_some_and(|pid| pid != before))
        })
        .await;
    }

    /// Straight to one server, whoever is master.
    pub(crate) async fn server(&self, address: &str) -> MultiplexedConnection {
        let (scheme_and_login, _) = self.topology.url().split_once('@').unwrap();
        let (_, login) = scheme_and_login.split_once("://").unwrap();
        open(&format!("redis://{login}@{address}")).await
    }
}

/// A server that changes its role hangs up on those who come at that moment.
pub(crate) async fn open(url: &str) -> MultiplexedConnection {
    let (client, mut opened) = (redis::Client::open(url).unwrap(), None);
    until("the server lets us in", async || {
        opened = client.get_multiplexed_async_connection().await.ok();
        opened.is_some()
    })
    .await;
    opened.unwrap()
}

pub(crate) async fn ask<T: FromRedisValue>(connection: &mut impl redis::aio::ConnectionLike, words: &str) -> RedisResult<T> {
    let mut words = words.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    cmd.arg(words.collect::<Vec<_>>());
    cmd.query_async(connection).await
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process is there");
}

pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waited).await.unwrap_or_else(|_| panic!("it never was so that {what}"));
}
