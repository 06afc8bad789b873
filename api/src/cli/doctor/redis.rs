//! Redis: which servers there are, their versions, whether one would drop work when memory runs out, and their clocks.

use super::{Finding, look_at_clock};
use shared::{
    Context,
    redis::{NodeAnswer, NodeFacts, Role, Topology},
};

/// The oldest that is tested.
const OLDEST_MAJOR: u32 = 7;

pub(super) async fn look(ctx: &Context) -> Vec<Finding> {
    let facts = match ctx.redis.facts().await {
        Ok(facts) => facts,
        Err(error) => {
            let place = ctx.redis.address().map_or_else(String::new, |address| format!("{address}: "));
            return vec![Finding::bad("redis", format!("{place}{}", error.told()))];
        }
    };
    let is_development = ctx.settings().profile.is_development();
    let mut findings = vec![Finding::good("redis", ctx.redis.seen().unwrap_or_else(|| facts.topology.to_string()))];
    for node in &facts.nodes {
        findings.extend(look_at_node(node, is_development));
    }
    if facts.nodes.len() == 1 && facts.topology != Topology::Server {
        findings.push(Finding::doubt("redis", "there is no replica, and so nothing to fail over to"));
    }
    if facts.topology == Topology::Server
        && facts.nodes.iter().any(|node| matches!(&node.answer, Ok(answer) if answer.role == Role::Replica))
    {
        findings.push(Finding::bad("redis", "REDIS_URL names a replica, which takes no writes"));
    }
    findings
}

fn look_at_node(node: &NodeFacts, is_development: bool) -> Vec<Finding> {
    let place = if node.address.is_empty() { String::new() } else { format!("{} is ", node.address) };
    let answer = match &node.answer {
        Ok(answer) => answer,
        Err(error) => return vec![Finding::doubt("redis", format!("{place}away: {error}"))],
    };
    let mut findings = vec![look_at_policy(&place, answer, is_development)];
    let major = answer.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST_MAJOR) {
        findings.push(Finding::bad("redis", format!("{place}of version {}; {OLDEST_MAJOR} or later is needed", answer.version)));
    }
    if answer.room.maxmemory_bytes == 0 && !is_development {
        findings
            .push(Finding::doubt("redis", format!("{place}without maxmemory: the kernel may kill it when memory runs out; set a limit")));
    }
    let server = if node.address.is_empty() { "Redis".to_owned() } else { format!("Redis {}", node.address) };
    findings.extend(answer.clock_ahead_s.map(|ahead_s| look_at_clock(&server, ahead_s)));
    findings
}

fn look_at_policy(place: &str, answer: &NodeAnswer, is_development: bool) -> Finding {
    let policy = &answer.maxmemory_policy;
    match policy.as_str() {
        "noeviction" => Finding::good("redis", format!("{place}{}, version {}, noeviction", answer.role, answer.version)),
        _ if is_development => Finding::doubt("redis", format!("{place}set to maxmemory-policy {policy}; set noeviction")),
        _ => Finding::bad(
            "redis",
            format!("{place}set to maxmemory-policy {policy}; anything but noeviction drops work when memory runs out: set that"),
        ),
    }
}
