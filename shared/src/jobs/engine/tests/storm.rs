//! Ten thousand jobs that fall due together.

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
