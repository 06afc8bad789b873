//! Who has which slots, by the nodes of a cluster. Several are asked: one that was cut off, or has just come back, tells of the
//! masters there were, in an older epoch.

use super::{
    address::{Entry, Node},
    follow::no_master,
    no_answer_within,
    view::{SLOTS, View},
};
use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, RedisResult, Value, aio::MultiplexedConnection};
use std::time::Duration;

/// Nodes asked in one look, each time others; two that are up make the outcome right.
const ASKED: usize = 8;

pub(super) struct Cluster {
    /// Asked whatever the others tell: those of the setting.
    seeds: Vec<Node>,
    nodes: Vec<Asked>,
    entry: Entry,
    patience: Duration,
}

struct Asked {
    node: Node,
    connection: Option<MultiplexedConnection>,
}

/// One node's word; the greatest is believed.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    /// Whether the node is with the majority, and every slot is somebody's.
    is_ok: bool,
    epoch: u64,
    view: View,
}

impl Word {
    fn rank(&self) -> (bool, u64, usize) {
        (self.is_ok, self.epoch, self.view.n_slots())
    }
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Node>, entry: Entry, patience: Duration) -> Self {
        let nodes = seeds.iter().map(|node| Asked { node: node.clone(), connection: None }).collect();
        Self { seeds, nodes, entry, patience }
    }

    pub(super) async fn look(&mut self) -> RedisResult<View> {
        let config = no_answer_within(self.patience);
        let rotation = ASKED.min(self.nodes.len());
        let entry = &self.entry;
        let words = join_all(self.nodes.iter_mut().take(ASKED).map(|asked| asked.ask(entry, &config))).await;
        let failure = words.iter().find_map(|word| word.as_ref().err().cloned());
        let latest = words.into_iter().flatten().max_by_key(Word::rank);
        self.nodes.rotate_left(rotation);
        let view = latest.map(|word| word.view).filter(|view| !view.masters.is_empty());
        let view = view.ok_or_else(|| failure.unwrap_or_else(|| no_master("no node of the cluster has slots")))?;
        self.meet(&view);
        Ok(view)
    }

    /// Asks the nodes of `view` from now on.
    fn meet(&mut self, view: &View) {
        let is_current = |node: &Node| self.seeds.contains(node) || view.masters.contains(node) || view.replicas.contains(node);
        self.nodes.retain(|asked| is_current(&asked.node));
        for node in view.masters.iter().chain(&view.replicas) {
            if self.nodes.iter().all(|asked| asked.node != *node) {
                self.nodes.push(Asked { node: node.clone(), connection: None });
            }
        }
    }
}

impl Asked {
    async fn ask(&mut self, entry: &Entry, config: &AsyncConnectionConfig) -> RedisResult<Word> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => entry.client(&self.node)?.get_multiplexed_async_connection_with_config(config).await?,
        };
        let mut pipe = redis::pipe();
        pipe.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let (info, slots): (String, Value) = pipe.query_async(&mut connection).await?;
        self.connection = Some(connection);
        let fact = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let epoch = fact("cluster_current_epoch:").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok(Word { is_ok: fact("cluster_state:") == Some("ok"), epoch, view: read_slots(&slots, &self.node) })
    }
}

/// `CLUSTER SLOTS`: ranges as first, last, master, replicas. What it cannot mean is left out.
fn read_slots(slots: &Value, told_by: &Node) -> View {
    let mut view = View::default();
    let Value::Array(ranges) = slots else { return view };
    let mut ranges: Vec<_> = ranges.iter().filter_map(|range| read_range(range, told_by)).collect();
    // Nodes tell the same in different orders.
    ranges.sort();
    for (first, last, master, mut replicas) in ranges {
        replicas.sort();
        view.add(first, last, master, replicas);
    }
    view.replicas.sort();
    view
}

fn read_range(range: &Value, told_by: &Node) -> Option<(u16, u16, Node, Vec<Node>)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), master, replicas @ ..] = &parts[..] else { return None };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let replicas = replicas.iter().filter_map(|replica| read_node(replica, told_by)).collect();
    (first <= last && last < SLOTS).then_some((first, last, read_node(master, told_by)?, replicas))
}

/// Host, port, id and more. A host that is not known is told as `?`, one that is the teller's own as nothing.
fn read_node(node: &Value, told_by: &Node) -> Option<Node> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = &parts[..] else { return None };
    let host = if let Value::BulkString(host) = host { str::from_utf8(host).ok()? } else { "" };
    let host = match host {
        "" => &told_by.host,
        "?" => return None,
        host => host,
    };
    Some(Node::new(host, u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    #[test]
    fn what_nodes_tell_of_slots_is_read() {
        let told_by = Node::new("teller", 1);
        let slots = Value::Array(vec![
            Value::Array(vec![Value::Int(100), Value::Int(16_383), node("", 3), node("?", 4)]),
            Value::Array(vec![Value::Int(0), Value::Int(99), node("h", 2), node("h", 5), node("h", 4)]),
            Value::Array(vec![Value::Int(7)]),
        ]);
        let view = read_slots(&slots, &told_by);
        assert_eq!(view.masters, [Node::new("h", 2), Node::new("teller", 3)]);
        assert_eq!(view.replicas, [Node::new("h", 4), Node::new("h", 5)]);
        assert_eq!(view.n_slots(), usize::from(SLOTS));
        assert_eq!(view.master_of(b"foo"), Some(&Node::new("teller", 3)));
    }

    #[test]
    fn the_word_of_the_majority_in_the_latest_epoch_counts() {
        let word = |is_ok, epoch| Word { is_ok, epoch, view: View::default() };
        let latest = [word(true, 3), word(false, 9), word(true, 4)].into_iter().max_by_key(Word::rank);
        assert_eq!(latest, Some(word(true, 4)));
    }
}
