//! Workers as they are reported and read.

use super::*;
use crate::{
    Code,
    ids::WorkerId,
    jobs::workers::{self, ActiveJob, ChildReport, ReservedJob, WorkerInstance, WorkerKind, WorkerState},
    page::PageRequest,
};
use time::Duration;

fn instance(fixture: &Fixture) -> WorkerInstance {
    WorkerInstance {
        id: WorkerId::new(),
        kind: WorkerKind::Process,
        name: "worker".to_owned(),
        host: "here".to_owned(),
        pid: 10,
        version: "0.1.0".to_owned(),
        queues: Vec::new(),
        concurrency: 8,
        prefetch: 32,
        state: WorkerState::Running,
        started_at: fixture.ctx.clock.now(),
        heartbeat_at: None,
        tasks_done: 0,
        tasks_failed: 0,
    }
}

async fn report(fixture: &Fixture, instance: &WorkerInstance, child: &ChildReport) {
    workers::report(&fixture.ctx, instance).await.unwrap();
    workers::report_child(&fixture.ctx, instance.id, child).await.unwrap();
}

fn child(fixture: &Fixture, pid: u32) -> ChildReport {
    let now = fixture.ctx.clock.now();
    let active = ActiveJob { job_id: JobId::new(), kind: "debug.sleep".to_owned(), attempt: 1, since: now, progress: None };
    let reserved = vec![ReservedJob { job_id: JobId::new() }; 2];
    ChildReport { pid, started_at: now, heartbeat_at: now, tasks_done: 5, tasks_failed: 1, rss_kb: 9_000, active: vec![active], reserved }
}

#[tokio::test]
async fn the_reports_of_children_add_up() {
    let fixture = Fixture::new().await;
    let operator = caller(Role::Operator);
    let instance = instance(&fixture);
    for pid in [11, 12] {
        report(&fixture, &instance, &child(&fixture, pid)).await;
    }
    let detail = workers::get(&fixture.ctx, &operator, instance.id).await.unwrap();
    let counts = detail.worker.counts;
    assert_eq!((counts.active, counts.reserved, counts.done, counts.failed), (2, 4, 10, 2));
    assert_eq!((detail.active.len(), detail.reserved.len(), detail.worker.children.len()), (2, 4, 2));
    workers::forget_child(&fixture.ctx, instance.id, 11).await.unwrap();
    assert_eq!(workers::get(&fixture.ctx, &operator, instance.id).await.unwrap().worker.children.len(), 1);
    workers::forget(&fixture.ctx, instance.id).await.unwrap();
    assert_eq!(workers::get(&fixture.ctx, &operator, instance.id).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn workers_are_listed_by_page_and_for_operators_only() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let instance = instance(&fixture);
        report(&fixture, &instance, &child(&fixture, 11)).await;
        ids.push(instance.id);
    }
    ids.reverse();
    let first = workers::list(&fixture.ctx, &caller(Role::Operator), &PageRequest { limit: 2, before: None }).await.unwrap();
    assert_eq!(first.items.iter().map(|worker| worker.id).collect::<Vec<_>>(), ids[..2]);
    let request = crate::page::page_request(Some(2), first.next_cursor.as_deref()).unwrap();
    let second = workers::list(&fixture.ctx, &caller(Role::Operator), &request).await.unwrap();
    assert_eq!((second.items[0].id, second.next_cursor), (ids[2], None));
    let refused = workers::list(&fixture.ctx, &fixture.user, &PageRequest { limit: 2, before: None }).await.unwrap_err();
    assert_eq!(refused.code, Code::InsufficientScope);
}

#[tokio::test]
async fn a_silent_worker_is_lost_and_a_silent_child_is_left_out() {
    let fixture = Fixture::new().await;
    let operator = caller(Role::Operator);
    let instance = instance(&fixture);
    for pid in [11, 12] {
        report(&fixture, &instance, &child(&fixture, pid)).await;
    }
    fixture.ctx.clock.advance(Duration::minutes(1));
    let lost = workers::get(&fixture.ctx, &operator, instance.id).await.unwrap();
    assert_eq!((lost.worker.state, lost.worker.children.len()), (WorkerState::Lost, 2));
    report(&fixture, &instance, &child(&fixture, 12)).await;
    let running = workers::get(&fixture.ctx, &operator, instance.id).await.unwrap();
    assert_eq!((running.worker.state, running.worker.children.len()), (WorkerState::Running, 1));
}
