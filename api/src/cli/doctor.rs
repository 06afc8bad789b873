//! `doctor`: looks at everything outside this binary that a good run depends on, and says what to do about it.

use nix::sys::resource::{Resource, getrlimit};
use shared::{
    Context,
    config::Settings,
    pg,
    redis::{NodeFacts, Role, Topology},
};
use std::{fmt::Write, net::TcpListener, process::ExitCode};

/// What one look found.
enum Finding {
    Good(String),
    /// Works, but not as well or as safely as it could.
    Doubt(String),
    Bad(String),
}

pub(super) fn run(settings: Settings) -> ExitCode {
    let findings = super::block_on(examine(settings));
    let is_bad = findings.iter().any(|finding| matches!(finding, Finding::Bad(_)));
    let mut text = String::new();
    for finding in findings {
        let (mark, words) = match finding {
            Finding::Good(words) => ("ok  ", words),
            Finding::Doubt(words) => ("warn", words),
            Finding::Bad(words) => ("BAD ", words),
        };
        writeln!(text, "{mark}  {words}").expect("writing to a string cannot fail");
    }
    super::print(text);
    if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn examine(settings: Settings) -> Vec<Finding> {
    let mut findings = vec![look_at_port(&settings), look_at_files(&settings)];
    match Context::open(settings) {
        Ok(ctx) => {
            findings.extend(look_at_postgres(&ctx).await);
            findings.extend(look_at_redis(&ctx).await);
        }
        Err(error) => findings.push(Finding::Bad(error.to_string())),
    }
    findings
}

fn look_at_port(settings: &Settings) -> Finding {
    let (host, port) = (settings.api_host, settings.api_port);
    match TcpListener::bind((host, port)) {
        Ok(_) => Finding::Good(format!("port: {host}:{port} is free")),
        Err(error) => Finding::Doubt(format!("port: {host}:{port} cannot be bound ({error}); fine if Millrace itself is running")),
    }
}

fn look_at_files(settings: &Settings) -> Finding {
    let wanted = (settings.api_workers() * settings.api_concurrency_limit + 500) as u64;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft >= wanted => Finding::Good(format!("files: the limit of {soft} open files is enough")),
        Ok((soft, _)) => {
            Finding::Doubt(format!("files: the limit is {soft}; {wanted} would be needed at full load: raise LimitNOFILE or `ulimit -n`"))
        }
        Err(error) => Finding::Doubt(format!("files: the limit cannot be read ({error})")),
    }
}

async fn look_at_postgres(ctx: &Context) -> Vec<Finding> {
    let facts = match pg::server_facts(&ctx.pg).await {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::Bad(format!("postgres: {error}"))],
    };
    let pool_max = i64::from(ctx.settings().db_pool_max());
    let mut findings = vec![Finding::Good(format!("postgres: version {}.{}", facts.version / 10_000, facts.version % 10_000))];
    if facts.version < 140_000 {
        findings.push(Finding::Bad("postgres: version 14 or later is needed".to_owned()));
    }
    // Two API processes and a worker are the usual smallest set.
    if pool_max * 3 > i64::from(facts.max_connections) - 20 {
        findings.push(Finding::Doubt(format!(
            "postgres: three processes of DB_POOL_MAX={pool_max} do not fit max_connections={}",
            facts.max_connections
        )));
    }
    if facts.synchronous_commit == "off" {
        findings
            .push(Finding::Bad("postgres: synchronous_commit is off, so accepted jobs can be lost in a crash of the server".to_owned()));
    }
    if facts.clock_ahead_s.abs() > 1.0 {
        findings.push(Finding::Doubt(format!("clock: PostgreSQL's is {:.1} s ahead of ours", facts.clock_ahead_s)));
    }
    findings.push(match pg::pending_migrations(&ctx.pg).await {
        Ok(0) => Finding::Good("migrations: all applied".to_owned()),
        Ok(n_pending) => Finding::Bad(format!("migrations: {n_pending} pending; run `millrace-api migrate`")),
        Err(error) => Finding::Bad(format!("migrations: {error}")),
    });
    findings
}

async fn look_at_redis(ctx: &Context) -> Vec<Finding> {
    let facts = match ctx.redis.facts().await {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::Bad(format!("redis: {error}"))],
    };
    let is_development = ctx.settings().profile.is_development();
    let mut findings = vec![Finding::Good(format!("redis: {}", ctx.redis.seen().unwrap_or_else(|| facts.topology.to_string())))];
    findings.extend(facts.nodes.iter().map(|node| look_at_redis_node(node, is_development)));
    if facts.nodes.len() == 1 && facts.topology != Topology::Server {
        findings.push(Finding::Doubt("redis: there is no replica, and so nothing to fail over to".to_owned()));
    }
    if facts.topology == Topology::Server
        && facts.nodes.iter().any(|node| matches!(&node.answer, Ok(answer) if answer.role == Role::Replica))
    {
        findings.push(Finding::Bad("redis: REDIS_URL names a replica, which takes no writes".to_owned()));
    }
    findings
}

fn look_at_redis_node(node: &NodeFacts, is_development: bool) -> Finding {
    let place = if node.address.is_empty() { "redis".to_owned() } else { format!("redis {}", node.address) };
    match &node.answer {
        Ok(answer) if answer.maxmemory_policy == "noeviction" => {
            Finding::Good(format!("{place}: {}, version {}, noeviction", answer.role, answer.version))
        }
        Ok(answer) if is_development => Finding::Doubt(format!("{place}: maxmemory-policy is {}; set noeviction", answer.maxmemory_policy)),
        Ok(answer) => Finding::Bad(format!(
            "{place}: maxmemory-policy is {}; anything but noeviction drops work when memory runs out",
            answer.maxmemory_policy
        )),
        Err(error) => Finding::Doubt(format!("{place}: {error}")),
    }
}
