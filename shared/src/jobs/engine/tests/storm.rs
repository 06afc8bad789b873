//! Ten thousand jobs that fall due together; and figures of larger storms.

use super::*;

#[tokio::test]
async fn ten_thousand_jobs_due_at_once_are_promoted_in_bounded_steps() {
    let fixture = Fixture::new().await;
    let template = fixture.row().await;
    let run_at = fixture.ctx.clock.now() + Duration::from_millis(800);
    let jobs: Vec<Enqueue> = (0..10_000).map(|_| Enqueue { id: JobId::new(), run_at, ..template.clone() }).collect();
    crate::jobs::engine::enqueue(&fixture.ctx, &fixture.queue, &jobs).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let mut n_sweeps = 0;
    loop {
        let swept = fixture.sweep().await;
        n_sweeps += usize::from(swept.has_more);
        if crate::jobs::engine::depths(&fixture.ctx, &fixture.queue).await.unwrap().queued == 10_000 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "every due job is promoted");
    }
    assert_eq!(n_sweeps, 50, "200 at a time");
    let mut n_leased = 0;
    while n_leased < 10_000 {
        let leased = fixture.lease(&worker(), 1_000).await;
        assert!(!leased.is_empty());
        n_leased += leased.len();
    }
}

/// Figures, not a test: `cargo test -p shared --lib storm -- --ignored --nocapture` on servers of its own.
#[tokio::test]
#[ignore = "prints figures, and takes a while"]
async fn figures_of_a_hundred_thousand_jobs_due_in_one_second() {
    let fixture = Fixture::new().await;
    let template = fixture.row().await;
    let due = fixture.ctx.clock.now() + Duration::from_secs(20);
    let delay = |n: u64| Duration::from_micros(n * 10);
    let jobs: Vec<Enqueue> = (0..100_000).map(|n| Enqueue { id: JobId::new(), run_at: due + delay(n), ..template.clone() }).collect();
    crate::jobs::engine::enqueue(&fixture.ctx, &fixture.queue, &jobs).await.unwrap();
    while fixture.ctx.clock.now() < due + Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = std::time::Instant::now();
    while fixture.sweep().await.has_more {}
    let promoted = began.elapsed();
    let n_leased = drain(&fixture, 100_000, 256).await;
    eprintln!("{n_leased} jobs: promoted in {promoted:.2?}, leased and finished after {:.2?}", began.elapsed());
}

/// What one step of 48 costs Redis while so many wait.
#[tokio::test]
#[ignore = "prints figures, and takes a while"]
async fn figures_of_a_deep_queue() {
    for depth in [1_000, 200_000, 1_000, 200_000] {
        let fixture = Fixture::new().await;
        let template = fixture.row().await;
        let jobs: Vec<Enqueue> = (0..depth + 24_000).map(|_| Enqueue { id: JobId::new(), ..template.clone() }).collect();
        let (waiting, refill) = jobs.split_at(depth);
        crate::jobs::engine::enqueue(&fixture.ctx, &fixture.queue, waiting).await.unwrap();
        let mut connection = fixture.connection.clone();
        // Each step's jobs are put in again first, so that the depth stays.
        let mut cost = 0.0;
        for refill in refill.chunks(48) {
            crate::jobs::engine::enqueue(&fixture.ctx, &fixture.queue, refill).await.unwrap();
            redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await.unwrap();
            drain(&fixture, 48, 48).await;
            cost += usec_of_scripts(&mut connection).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let n_steps = refill.len().div_ceil(48) as f64;
        eprintln!("{depth} waiting: {:.1} us for leasing and finishing 48", cost / n_steps);
    }
}

/// Leases and finishes `n` jobs, so many at a time.
async fn drain(fixture: &Fixture, n: usize, at_once: usize) -> usize {
    let holder = worker();
    let mut n_finished = 0;
    let mut finish = Vec::new();
    loop {
        let want = if n_finished + finish.len() < n { at_once } else { 0 };
        let n_finishing = finish.len();
        let stepped = fixture.step(&holder, Step { finish: std::mem::take(&mut finish), want, ..Step::default() }).await;
        n_finished += n_finishing;
        if stepped.leased.is_empty() {
            return n_finished;
        }
        let token = |leased: &Leased| Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: holder.nonce };
        finish = stepped.leased.iter().map(|leased| end(token(leased), leased.standing, "succeeded")).collect();
    }
}

async fn usec_of_scripts(connection: &mut Connection) -> f64 {
    let info: redis::InfoDict = redis::cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
    let line: String = info.get("cmdstat_evalsha").unwrap();
    line.split(',').find_map(|part| part.strip_prefix("usec=")).unwrap().parse().unwrap()
}
