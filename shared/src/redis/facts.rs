//! What stands behind `REDIS_URL`, for readiness and `doctor`: which servers, in which roles, and whether one might drop jobs.

use super::{Redis, Servers, address::Node, follow::Followed, no_answer_within, view::View};
use crate::{
    Error, Result,
    capacity::RedisRoom,
    telemetry::{
        metrics::{
            REDIS_AOF_OK, REDIS_AOF_ON, REDIS_CLIENTS, REDIS_CLIENTS_MAX, REDIS_COMMANDS, REDIS_EVICTED, REDIS_MASTER, REDIS_MEMORY,
            REDIS_MEMORY_MAX, REDIS_REJECTED, REDIS_SLOWLOG,
        },
        page::Page,
    },
};
use futures_util::future::join_all;
use redis::{Client, InfoDict};
use std::{fmt, time::Duration};
use time::OffsetDateTime;

/// The servers behind the setting, replicas included: each may be the master tomorrow.
#[derive(Debug)]
pub struct Facts {
    pub topology: Topology,
    pub nodes: Vec<NodeFacts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    Server,
    Sentinel,
    Cluster,
}

#[derive(Debug)]
pub struct NodeFacts {
    /// Empty where there is but one.
    pub address: String,
    /// Of one that does not answer: why not.
    pub answer: Result<NodeAnswer, String>,
}

#[derive(Debug)]
pub struct NodeAnswer {
    pub role: Role,
    pub version: String,
    /// Anything but `noeviction` may drop jobs when memory runs out.
    pub maxmemory_policy: String,
    pub room: RedisRoom,
    /// Seconds by which the server's clock is ahead of ours, the time of the answer included; `None` before version 7.
    pub clock_ahead_s: Option<f64>,
    figures: Figures,
}

/// How busy a server is, beyond its room.
#[derive(Debug)]
struct Figures {
    slowlog: u64,
    commands: u64,
    evicted: u64,
    rejected: u64,
    is_aof_on: bool,
    is_aof_ok: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Master,
    Replica,
}

impl Facts {
    /// The policy of the first server that may drop keys, and which one that is.
    pub fn evicting(&self) -> Option<(&str, &str)> {
        let answers = self.nodes.iter().filter_map(|node| Some((&node.address, node.answer.as_ref().ok()?)));
        let mut evicting = answers.filter(|(_, answer)| answer.maxmemory_policy != "noeviction");
        evicting.next().map(|(address, answer)| (&answer.maxmemory_policy[..], &address[..]))
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "one server",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Replica => "replica",
        })
    }
}

impl Redis {
    /// Eviction would drop queued work silently, so only development may run with it. A server that is away is no reason to stay
    /// down ourselves.
    pub async fn refuse_eviction(&self, is_development: bool) -> Result<()> {
        let Ok(facts) = self.facts().await else {
            tracing::warn!("Redis does not answer yet; its maxmemory-policy is unchecked");
            return Ok(());
        };
        let Some((policy, address)) = facts.evicting() else { return Ok(()) };
        let address = Some(address).filter(|address| !address.is_empty());
        tracing::warn!(policy, address, "Redis may evict keys; set maxmemory-policy to noeviction");
        if is_development {
            return Ok(());
        }
        let server = address.map_or("Redis".to_owned(), |address| format!("Redis {address}"));
        Err(Error::internal(format!(
            "{server} has maxmemory-policy {policy}, which drops work when memory runs out; set maxmemory-policy noeviction, as everywhere outside development"
        )))
    }

    /// Where the one server is; `None` where others tell. Without user and password.
    pub fn address(&self) -> Option<String> {
        match &self.servers {
            Servers::One(client, _) => Some(client.get_connection_info().addr().to_string()),
            Servers::Followed { .. } => None,
        }
    }

    /// Asks every server; fails where nobody tells who there is.
    pub async fn facts(&self) -> Result<Facts> {
        match &self.servers {
            Servers::One(client, _) => {
                let (answer, _) = ask(client, self.patience).await?;
                Ok(Facts { topology: Topology::Server, nodes: vec![NodeFacts { address: String::new(), answer: Ok(answer) }] })
            }
            Servers::Followed { followed, topology } => {
                Ok(Facts { topology: *topology, nodes: self.ask_all(followed, &*followed.view().await?).await })
            }
        }
    }

    /// Tells how busy the servers are; of those that do not answer, nothing.
    pub async fn tell(&self, page: &mut Page) -> Result<()> {
        let facts = self.facts().await?;
        // One alone has no address of its own in what is told.
        let name = |node: &NodeFacts| if node.address.is_empty() { "redis".to_owned() } else { node.address.clone() };
        let known: Vec<_> = facts.nodes.iter().filter_map(|node| Some((name(node), node.answer.as_ref().ok()?))).collect();
        let by_node = |value: fn(&NodeAnswer) -> u64| {
            #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
            known.iter().map(move |(name, answer)| ([name.clone()], value(answer) as f64)).collect::<Vec<_>>()
        };
        page.series(REDIS_MEMORY, by_node(|answer| answer.room.used_memory_bytes));
        page.series(REDIS_MEMORY_MAX, by_node(|answer| answer.room.maxmemory_bytes));
        page.series(REDIS_CLIENTS, by_node(|answer| answer.room.clients.into()));
        page.series(REDIS_CLIENTS_MAX, by_node(|answer| answer.room.maxclients.into()));
        page.series(REDIS_SLOWLOG, by_node(|answer| answer.figures.slowlog));
        page.series(REDIS_COMMANDS, by_node(|answer| answer.figures.commands));
        page.series(REDIS_EVICTED, by_node(|answer| answer.figures.evicted));
        page.series(REDIS_REJECTED, by_node(|answer| answer.figures.rejected));
        page.series(REDIS_AOF_ON, by_node(|answer| answer.figures.is_aof_on.into()));
        page.series(REDIS_AOF_OK, by_node(|answer| answer.figures.is_aof_ok.into()));
        page.series(REDIS_MASTER, by_node(|answer| (answer.role == Role::Master).into()));
        Ok(())
    }

    async fn ask_all(&self, followed: &Followed, view: &View) -> Vec<NodeFacts> {
        let mut known: Vec<Node> = view.masters.iter().chain(&view.replicas).cloned().collect();
        let mut nodes = Vec::new();
        // A master behind Sentinel says itself who its replicas are.
        while !known.is_empty() {
            let asked = join_all(known.iter().map(|node| async move { ask(&followed.client(node)?, self.patience).await })).await;
            let mut found = Vec::new();
            for (node, answer) in known.drain(..).zip(asked) {
                let answer = answer.map(|(answer, info)| {
                    found.extend(replicas(&info));
                    answer
                });
                nodes.push(NodeFacts { address: node.to_string(), answer: answer.map_err(|error| error.to_string()) });
            }
            found.retain(|node| nodes.iter().all(|known| known.address != node.to_string()));
            found.truncate(REPLICAS_MAX);
            known = found;
        }
        nodes
    }

    /// What is seen where there is more than one server: the topology, and who is master. `None` before anybody told.
    pub fn seen(&self) -> Option<String> {
        match &self.servers {
            Servers::One(..) => None,
            Servers::Followed { followed, topology } => followed.known().map(|view| said(*topology, &view)),
        }
    }
}

/// Replicas looked at of one master; more would say nothing new.
const REPLICAS_MAX: usize = 16;

fn said(topology: Topology, view: &View) -> String {
    match &view.masters[..] {
        [master] => format!("{topology}, master {master}"),
        masters => format!("{topology}, {} masters, {} replicas", masters.len(), view.replicas.len()),
    }
}

async fn ask(client: &Client, patience: Duration) -> redis::RedisResult<(NodeAnswer, InfoDict)> {
    let mut connection = client.get_multiplexed_async_connection_with_config(&no_answer_within(patience)).await?;
    let info: InfoDict = redis::cmd("INFO").arg("everything").query_async(&mut connection).await?;
    // Where it is not allowed to ask, nothing is known to be slow.
    let slowlog = redis::cmd("SLOWLOG").arg("LEN").query_async(&mut connection).await.unwrap_or(0);
    let text = |name| info.get::<String>(name).unwrap_or_else(|| "unknown".to_owned());
    let number = |name| info.get::<u64>(name).unwrap_or(0);
    let role = if text("role") == "master" { Role::Master } else { Role::Replica };
    let (version, maxmemory_policy) = (text("redis_version"), text("maxmemory_policy"));
    let figures = Figures {
        slowlog,
        commands: number("total_commands_processed"),
        evicted: number("evicted_keys"),
        rejected: number("rejected_connections"),
        is_aof_on: number("aof_enabled") == 1,
        is_aof_ok: text("aof_last_write_status") == "ok",
    };
    let (room, clock_ahead_s) = (room(&info), clock_ahead_s(&info));
    Ok((NodeAnswer { role, version, maxmemory_policy, room, clock_ahead_s, figures }, info))
}

fn room(info: &InfoDict) -> RedisRoom {
    let clients = |name| info.get::<u32>(name).unwrap_or_default();
    let bytes = |name| info.get::<u64>(name).unwrap_or_default();
    RedisRoom {
        maxmemory_bytes: bytes("maxmemory"),
        used_memory_bytes: bytes("used_memory"),
        maxclients: clients("maxclients"),
        clients: clients("connected_clients"),
    }
}

fn clock_ahead_s(info: &InfoDict) -> Option<f64> {
    let theirs_us = info.get::<i64>("server_time_usec")? as f64;
    let ours_us = OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e3;
    Some((theirs_us - ours_us) / 1e6)
}

/// `slave0:ip=127.0.0.1,port=7001,state=online,…`
fn replicas(info: &InfoDict) -> Vec<Node> {
    let replica = |n: usize| {
        let line: String = info.get(&format!("slave{n}"))?;
        let part = |name: &str| line.split(',').find_map(|part| part.strip_prefix(name));
        Some(Node::new(part("ip=")?, part("port=")?.parse().ok()?))
    };
    (0..REPLICAS_MAX).map_while(replica).collect()
}
