//! A connection to masters that change: to each a healing one of its own, opened when it is first needed.
//!
//! The client library's cluster connection is not used, and docs/adr/0014 says why: above all it sends a command again whose
//! answer was lost, and never leaves a master that hangs.

use super::{
    address::Node,
    follow::{Followed, no_master},
    route::Route,
    view::View,
};
use futures_util::future::{join_all, try_join_all};
use redis::{
    Cmd, Pipeline, RedisError, RedisResult, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// How often a command is sent on: to where a slot has moved, and perhaps from there to where its key already is.
const HOPS_MAX: usize = 3;

pub(super) struct Routed {
    followed: Followed,
    config: ConnectionManagerConfig,
    /// At most one for each master.
    lines: Mutex<HashMap<Node, ConnectionManager>>,
}

/// What an answer says about where it came from.
enum Verdict {
    Fine,
    /// The server is gone, or is no master any more: others may know who is.
    Doubtful,
    /// Refused: the slot is another's.
    Moved(Node),
    /// Refused: the key is already with the one that the slot moves to.
    Ask(Node),
}

/// The commands of a pipeline that go to the same master, and their places in it.
struct Share {
    node: Node,
    pipeline: Pipeline,
    places: Vec<usize>,
}

impl Routed {
    pub(super) fn new(followed: Followed, config: ConnectionManagerConfig) -> Self {
        Self { followed, config, lines: Mutex::default() }
    }

    pub(super) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        let view = self.followed.view().await?;
        if view.is_one() {
            return self.send_to(view.masters[0].clone(), cmd).await;
        }
        match Route::of(cmd) {
            Route::Key(key) => self.send_to(self.owner(&view, key)?, cmd).await,
            Route::Any => self.send_to(any(&view)?, cmd).await,
            Route::EachOnce => {
                let answers = self.send_to_each(&view, cmd).await;
                let failure = || no_master("there is no master");
                answers.into_iter().reduce(|first, next| if is_done(&first) { first } else { next }).ok_or_else(failure)?
            }
            Route::EachJoined => {
                let mut joined = Vec::new();
                for answer in self.send_to_each(&view, cmd).await {
                    let answer = answer?;
                    if let Value::Array(items) = answer { joined.extend(items) } else { joined.push(answer) }
                }
                Ok(Value::Array(joined))
            }
        }
    }

    pub(super) async fn send_pipeline(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let view = self.followed.view().await?;
        if view.is_one() || pipeline.is_transaction() {
            let node = if view.is_one() { view.masters[0].clone() } else { self.owner_of_all(&view, pipeline)? };
            return self.send_whole(&node, pipeline, offset, count).await;
        }
        let mut shares = self.deal(&view, pipeline)?;
        let answers = match &shares[..] {
            [] => return Ok(Vec::new()),
            [one] => self.send_whole(&one.node, pipeline, offset, count).await?,
            [..] => {
                let sent = shares.iter().map(|share| self.send_whole(&share.node, &share.pipeline, 0, share.places.len()));
                let answers = try_join_all(sent).await?;
                let mut in_place = vec![Value::Nil; count];
                for (share, answers) in shares.iter_mut().zip(answers) {
                    for (place, answer) in share.places.drain(..).zip(answers) {
                        in_place[place] = answer;
                    }
                }
                in_place
            }
        };
        self.send_on(pipeline, answers).await
    }

    /// Deals the commands of a pipeline out over the masters, each master's in their order.
    fn deal(&self, view: &View, pipeline: &Pipeline) -> RedisResult<Vec<Share>> {
        let mut shares: Vec<Share> = Vec::new();
        let mut keyless = Vec::new();
        for (place, cmd) in pipeline.cmd_iter().enumerate() {
            match Route::of(cmd) {
                Route::Key(key) => {
                    let node = self.owner(view, key)?;
                    add(&mut shares, node, place, cmd);
                }
                // They go along with others.
                Route::Any | Route::EachOnce | Route::EachJoined => keyless.push((place, cmd)),
            }
        }
        for (place, cmd) in keyless {
            let node = shares.first().map_or_else(|| any(view), |share| Ok(share.node.clone()))?;
            add(&mut shares, node, place, cmd);
        }
        Ok(shares)
    }

    /// Sends those commands of a pipeline on that were refused where the view sent them.
    async fn send_on(&self, pipeline: &Pipeline, mut answers: Vec<Value>) -> RedisResult<Vec<Value>> {
        for (cmd, answer) in pipeline.cmd_iter().zip(&mut answers) {
            let Value::ServerError(error) = &*answer else { continue };
            if matches!(error.code(), "MOVED" | "ASK") {
                let next = self.next(&Ok(answer.clone()), &Node::new("", 0));
                *answer = match next {
                    Verdict::Moved(node) => self.send_to(node, cmd).await?,
                    Verdict::Ask(node) => self.ask(&node, cmd).await?,
                    Verdict::Fine | Verdict::Doubtful => continue,
                };
            }
        }
        Ok(answers)
    }

    async fn send_to(&self, mut node: Node, cmd: &Cmd) -> RedisResult<Value> {
        let mut answer = self.line(&node)?.send_packed_command(cmd).await;
        for _ in 0..HOPS_MAX {
            let next = self.next(&answer, &node);
            (node, answer) = match next {
                Verdict::Fine | Verdict::Doubtful => return answer,
                Verdict::Moved(to) => {
                    let answer = self.line(&to)?.send_packed_command(cmd).await;
                    (to, answer)
                }
                Verdict::Ask(to) => {
                    let answer = self.ask(&to, cmd).await;
                    (to, answer)
                }
            };
        }
        answer
    }

    /// Asks for a key of a slot that is on its way to `node`.
    async fn ask(&self, node: &Node, cmd: &Cmd) -> RedisResult<Value> {
        let mut pipe = redis::pipe();
        pipe.cmd("ASKING").add_command(cmd.clone());
        let mut answers = self.line(node)?.send_packed_commands(&pipe, 0, 2).await?;
        answers.pop().ok_or_else(|| no_master("ASKING was not answered"))
    }

    async fn send_to_each(&self, view: &View, cmd: &Cmd) -> Vec<RedisResult<Value>> {
        join_all(view.masters.iter().map(|node| self.send_to(node.clone(), cmd))).await
    }

    async fn send_whole(&self, node: &Node, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let answers = self.line(node)?.send_packed_commands(pipeline, offset, count).await;
        match &answers {
            Ok(answers) => {
                if answers.iter().any(|answer| matches!(answer, Value::ServerError(error) if is_doubtful(error.code()))) {
                    self.followed.doubt();
                }
            }
            Err(error) => drop(self.next(&Err(error.clone()), node)),
        }
        answers
    }

    fn owner(&self, view: &View, key: &[u8]) -> RedisResult<Node> {
        view.master_of(key).cloned().ok_or_else(|| {
            self.followed.doubt();
            no_master("the slot of a key is nobody's")
        })
    }

    fn owner_of_all(&self, view: &View, pipeline: &Pipeline) -> RedisResult<Node> {
        let key = pipeline.cmd_iter().find_map(|cmd| match Route::of(cmd) {
            Route::Key(key) => Some(key),
            Route::Any | Route::EachOnce | Route::EachJoined => None,
        });
        key.map_or_else(|| any(view), |key| self.owner(view, key))
    }

    /// What is to follow from an answer of `node`; has others asked where it tells that masters have changed.
    fn next(&self, answer: &RedisResult<Value>, node: &Node) -> Verdict {
        let error: RedisError = match answer {
            Ok(Value::ServerError(error)) => error.clone().into(),
            Ok(_) => return Verdict::Fine,
            Err(error) => error.clone(),
        };
        let to = error.redirect_node().and_then(|(to, _)| Node::parse(to, node));
        match (error.code(), to) {
            (Some("MOVED"), Some(to)) => {
                self.followed.doubt();
                Verdict::Moved(to)
            }
            (Some("ASK"), Some(to)) => Verdict::Ask(to),
            (Some(code), _) if !is_doubtful(code) => Verdict::Fine,
            _ => {
                self.followed.doubt();
                Verdict::Doubtful
            }
        }
    }

    fn line(&self, node: &Node) -> RedisResult<ConnectionManager> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(node) {
            return Ok(line.clone());
        }
        let line = ConnectionManager::new_lazy_with_config(self.followed.client(node)?, self.config.clone())?;
        // Those of servers that are masters no more go now.
        if let Some(view) = self.followed.known() {
            lines.retain(|known, _| view.masters.contains(known));
        }
        lines.insert(node.clone(), line.clone());
        Ok(line)
    }
}

fn add(shares: &mut Vec<Share>, node: Node, place: usize, cmd: &Cmd) {
    let at = shares.iter().position(|share| share.node == node).unwrap_or_else(|| {
        shares.push(Share { node, pipeline: Pipeline::new(), places: Vec::new() });
        shares.len() - 1
    });
    shares[at].pipeline.add_command(cmd.clone());
    shares[at].places.push(place);
}

pub(super) fn any(view: &View) -> RedisResult<Node> {
    let at = rand::random_range(0..view.masters.len().max(1));
    view.masters.get(at).cloned().ok_or_else(|| no_master("there is no master"))
}

fn is_done(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Ok(value) if !matches!(value, Value::ServerError(_)))
}

/// Whether a server that answers so is perhaps no master, or not with the others.
fn is_doubtful(code: &str) -> bool {
    matches!(code, "MOVED" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "LOADING" | "NOREPLICAS")
}
