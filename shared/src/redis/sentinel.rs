//! Who is master, by Sentinel. All are asked: one that was cut off tells of the master there was, under an older number.

use super::{
    address::{Entry, Node},
    follow::no_master,
    no_answer_within,
    view::View,
};
use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisResult, aio::MultiplexedConnection};
use std::{collections::HashMap, time::Duration};

pub(super) struct Sentinels {
    all: Vec<Sentinel>,
    master: String,
    entry: Entry,
    patience: Duration,
}

struct Sentinel {
    client: Client,
    connection: Option<MultiplexedConnection>,
}

/// One sentinel's word.
struct Word {
    master: Node,
    /// Grows with each failover.
    epoch: u64,
}

impl Sentinels {
    pub(super) fn new(sentinels: Vec<ConnectionInfo>, master: String, entry: Entry, patience: Duration) -> RedisResult<Self> {
        let all = sentinels.into_iter().map(|info| Ok(Sentinel { client: Client::open(info)?, connection: None }));
        Ok(Self { all: all.collect::<RedisResult<_>>()?, master, entry, patience })
    }

    /// The master by the latest word, once it says itself that it is one.
    pub(super) async fn look(&mut self, known: Option<&View>) -> RedisResult<View> {
        let config = no_answer_within(self.patience);
        let words = join_all(self.all.iter_mut().map(|sentinel| sentinel.ask(&self.master, &config))).await;
        let mut failure = None;
        let mut latest: Option<Word> = None;
        for word in words {
            match word {
                Ok(word) if latest.as_ref().is_none_or(|latest| latest.epoch < word.epoch) => latest = Some(word),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        let Some(latest) = latest else {
            return Err(failure.unwrap_or_else(|| no_master("there are no sentinels to ask")));
        };
        let view = View::of_one(latest.master);
        if known != Some(&view) {
            self.confirm(&view.masters[0]).await?;
        }
        Ok(view)
    }

    async fn confirm(&self, master: &Node) -> RedisResult<()> {
        let config = no_answer_within(self.patience);
        let mut connection = self.entry.client(master)?.get_multiplexed_async_connection_with_config(&config).await?;
        let role: redis::Role = redis::cmd("ROLE").query_async(&mut connection).await?;
        let is_master = matches!(role, redis::Role::Primary { .. });
        if is_master { Ok(()) } else { Err(no_master("the server that Sentinel names is no master yet")) }
    }
}

impl Sentinel {
    async fn ask(&mut self, master: &str, config: &AsyncConnectionConfig) -> RedisResult<Word> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.client.get_multiplexed_async_connection_with_config(config).await?,
        };
        let mut pipe = redis::pipe();
        // During a failover the first is told earlier than the second; the number is up to date by then.
        pipe.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).cmd("SENTINEL").arg("MASTER").arg(master);
        let ((host, port), facts): ((String, u16), HashMap<String, String>) = pipe.query_async(&mut connection).await?;
        self.connection = Some(connection);
        let epoch = facts.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok(Word { master: Node::new(&host, port), epoch })
    }
}
