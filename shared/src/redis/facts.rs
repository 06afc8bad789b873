//! What stands behind `REDIS_URL`, for readiness and `doctor`: which servers, in which roles, and whether one might drop jobs.

use super::{Redis, Servers, address::Node, follow::Followed, no_answer_within, view::View};
use crate::{Error, Result, capacity::RedisRoom};
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
        tracing::warn!(policy, address, "Redis may evict keys; set maxmemory-policy to noeviction");
        if is_development {
            return Ok(());
        }
        Err(Error::internal(format!("Redis {address} has maxmemory-policy {policy}; outside development it must be noeviction")))
    }

    /// Asks every server; fails where nobody tells who there is.
    pub async fn facts(&self) -> Result<Facts> {
        match &self.servers {
            Servers::One(client) => {
                let (answer, _) = ask(client, self.patience).await?;
                Ok(Facts { topology: Topology::Server, nodes: vec![NodeFacts { address: String::new(), answer: Ok(answer) }] })
            }
            Servers::Followed { followed, topology } => {
                Ok(Facts { topology: *topology, nodes: self.ask_all(followed, &*followed.view().await?).await })
            }
        }
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
            Servers::One(_) => None,
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
    let text = |name| info.get::<String>(name).unwrap_or_else(|| "unknown".to_owned());
    let role = if text("role") == "master" { Role::Master } else { Role::Replica };
    let (version, maxmemory_policy) = (text("redis_version"), text("maxmemory_policy"));
    Ok((NodeAnswer { role, version, maxmemory_policy, room: room(&info), clock_ahead_s: clock_ahead_s(&info) }, info))
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
