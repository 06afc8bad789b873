//! PostgreSQL: its version, whether a commit is one, whether all pools fit it, its clock, and the migrations.

use super::{Finding, Verdict, look_at_clock};
use shared::{
    Context, Error,
    capacity::pools::{self, LEFT_TO_OTHERS},
    config::{Auto, Settings},
    jobs::workers,
    nodes, pg,
};

/// 14.0, as the server writes it.
const OLDEST: i32 = 140_000;

pub(super) async fn look(ctx: &Context) -> Vec<Finding> {
    let facts = match pg::server_facts(&ctx.pg).await {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::bad("postgres", why_away(ctx, &error).await)],
    };
    let version = format!("version {}.{}", facts.version / 10_000, facts.version % 10_000);
    let mut findings = vec![if facts.version < OLDEST {
        Finding::bad("postgres", format!("{version}; 14 or later is needed"))
    } else {
        Finding::good("postgres", version)
    }];
    if facts.synchronous_commit == "off" {
        findings.push(Finding::bad("postgres", "synchronous_commit is off, so accepted jobs can be lost in a crash of the server"));
    }
    findings.push(look_at_pools(ctx, facts.max_connections).await);
    findings.push(look_at_clock("PostgreSQL", facts.clock_ahead_s));
    findings.push(match pg::pending_migrations(&ctx.pg).await {
        Ok(0) => Finding::good("migrations", "all applied"),
        Ok(n_pending) => Finding::bad("migrations", format!("{n_pending} pending; run `millrace-api migrate`")),
        Err(error) => Finding::bad("migrations", error.told()),
    });
    findings.extend(look_at_replica(ctx).await);
    findings
}

/// What a connection of its own finds, which says more than a pool that waits.
async fn why_away(ctx: &Context, error: &Error) -> String {
    match pg::ask_directly(&ctx.settings()).await {
        Ok((place, Err(found))) => format!("{place}: {}", found.told()),
        Ok((place, Ok(()))) => format!("{place}: {}", error.told()),
        Err(unasked) => unasked.told(),
    }
}

/// Nothing stops without it: the primary answers in its place.
async fn look_at_replica(ctx: &Context) -> Option<Finding> {
    let replica = ctx.replica.as_ref()?;
    Some(match replica.pending_migrations().await {
        Ok(0) => Finding::good("replica", "answers, and has seen all migrations"),
        Ok(n_pending) => {
            Finding::doubt("replica", format!("{n_pending} migrations have not come there; the primary answers what it cannot"))
        }
        Err(error) => Finding::doubt("replica", format!("{}; the primary answers in its place", error.told())),
    })
}

/// Whether the pools of all processes fit: those that are said to be, and those that were heard of.
async fn look_at_pools(ctx: &Context, max_connections: i32) -> Finding {
    let (n_nodes, n_workers) = match tokio::join!(nodes::list(ctx), workers::instances(ctx)) {
        (Ok(nodes), Ok(workers)) => (nodes.len(), workers.processes),
        _ => (0, 0),
    };
    let heard_of = n_nodes + n_workers;
    let mut settings = Settings::clone(&ctx.settings());
    // A size that somebody chose may be for the API alone.
    let may_be_of_worker = n_workers > 0 || settings.db_pool_max == Auto::Auto;
    let max_connections = u32::try_from(max_connections).unwrap_or_default();
    let mut of_worker = settings.clone();
    of_worker.fit_pool(of_worker.db_pool_max_of_worker(), max_connections);
    settings.fit_pool(settings.db_pool_max(), max_connections);
    let said = settings.db_processes;
    let finding = judge_pools(said, u32::try_from(heard_of).unwrap_or(u32::MAX), settings.db_pool_max(), max_connections);
    let (most, least) = (of_worker.db_pool_max_of_worker(), pools::least_of_worker(settings.n_children()));
    if finding.verdict == Verdict::Good && may_be_of_worker && most < least {
        let words = format!(
            "a worker with its children opens {least} connections at times, and it may have {most}: raise max_connections or, where it is set, \
             DB_POOL_MAX, or lower WORKER_CHILDREN"
        );
        return Finding::doubt("pools", words);
    }
    finding
}

fn judge_pools(said: u32, heard_of: u32, pool_max: u32, max_connections: u32) -> Finding {
    let processes = said.max(heard_of);
    let sum = u64::from(processes) * u64::from(pool_max);
    let room = max_connections.saturating_sub(LEFT_TO_OTHERS);
    if heard_of > said {
        let words = format!(
            "{heard_of} processes run, and DB_PROCESSES is {said}: set it to {heard_of}, so that all pools fit max_connections={max_connections}"
        );
        return Finding::doubt("pools", words);
    }
    if sum <= u64::from(room) {
        return Finding::good("pools", format!("{processes} processes of DB_POOL_MAX={pool_max} fit max_connections={max_connections}"));
    }
    let words = format!(
        "{processes} processes of DB_POOL_MAX={pool_max} make {sum}, and max_connections={max_connections} leaves {room} ({LEFT_TO_OTHERS} are for others): \
         set DB_POOL_MAX to auto or {}, or raise max_connections",
        pools::share(max_connections, processes)
    );
    Finding::doubt("pools", words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_must_fit_what_the_server_takes_less_twenty() {
        assert_eq!(judge_pools(3, 0, 60, 200).verdict, Verdict::Good);
        let finding = judge_pools(3, 2, 61, 200);
        assert_eq!(finding.verdict, Verdict::Doubt);
        assert!(finding.words.contains("make 183") && finding.words.contains("auto or 60"), "{}", finding.words);
        assert!(judge_pools(3, 5, 10, 200).words.contains("set it to 5"));
    }
}
