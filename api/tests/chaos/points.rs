//! The ledger of points under chaos: loads of fifty thousand points at once, one in a hundred of a track that is not there, each load sent twice,
//! while in the middle of storing them the worker, Redis or PostgreSQL is killed, or PostgreSQL is away for a while. Stored and dead are what
//! was accepted, and the same load again stores no point and changes no hour.

use crate::{
    client::Client,
    programs::{Program, Programs},
    servers::Servers,
};
use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    points::depth,
    testing::{TestStores, all_hours, differing_hours},
};
use std::time::{Duration, Instant};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Points of one load.
const N_POINTS: u64 = 50_000;
/// Points of one request.
const BATCH: u64 = 1_000;
/// Requests on their way at the same time: debug builds take a while for each.
const AT_ONCE: usize = 8;
const N_TRACKS: u64 = 10;
/// Of so many points one is of a track that is not there.
const MISSING_EVERY: u64 = 100;
/// Requests of a load that are sent while PostgreSQL is away.
const N_LATE: usize = 10;
/// So long that batches wait behind the breaker and not in quick retries. It stands in for an outage of half a minute, in which the same goes on.
const OUTAGE: Duration = Duration::from_secs(3);
/// What is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// Small batches, and a short wait for what a killed worker took: the fault is to meet a batch, and the test is to see its end.
const WORKER: [(&str, &str); 3] = [("INGEST_BATCH_MAX", "500"), ("INGEST_BATCH_MS", "0"), ("INGEST_CLAIM_MS", "1000")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    WorkerKilled,
    RedisKilled,
    PostgresKilled,
    /// Stopped as an operator would, and started again after a while.
    PostgresAway,
}

struct Site {
    client: Client,
    servers: Servers,
    programs: Programs,
    worker: Option<Program>,
    tracks: Vec<String>,
    _api: Program,
    stores: TestStores,
}

/// Each load meets one fault when it is new, and another when it is sent again.
pub(crate) async fn account_for_points() {
    let mut site = Site::start().await;
    let told = tokio::time::timeout(LIMIT, async {
        let mut told = Vec::new();
        for (day, [first, again]) in (1..).zip([[Fault::WorkerKilled, Fault::RedisKilled], [Fault::PostgresKilled, Fault::PostgresAway]]) {
            let load = load(day, &site.tracks);
            told.push(site.store_under(first, &load).await);
            let hours = site.check(day, day * 2 - 1).await;
            told.push(site.store_under(again, &load).await);
            assert_eq!(site.check(day, day * 2).await, hours, "the same load again changes no hour");
        }
        told
    });
    report(
        &told.await.unwrap_or_else(|_| panic!("not over after {} s; the logs are in {}", LIMIT.as_secs(), site.programs.logs.display())),
    );
    std::fs::remove_dir_all(&site.programs.logs).unwrap();
}

#[expect(clippy::print_stdout, reason = "the figures are what a run is for")]
fn report(told: &[(Fault, u64, Duration)]) {
    println!("{} loads of {N_POINTS} points: stored or dead, each once", told.len());
    let told = told.iter().map(|(fault, n_left, took)| format!("{fault:?} ({n_left}, {:.1})", took.as_secs_f64()));
    println!("  faults (points left then, seconds to send and store): {}", told.collect::<Vec<_>>().join(", "));
}

impl Site {
    async fn start() -> Self {
        let stores = TestStores::create().await;
        let mut programs = Programs::prepare(&stores);
        let api = programs.api();
        let client = Client::sign_in(programs.port).await;
        let mut site = Self { client, servers: Servers::of_this_run(), programs, worker: None, tracks: Vec::new(), _api: api, stores };
        for n in 0..N_TRACKS {
            let body = json!({"name": format!("track {n}")});
            let (status, track) = site.client.persist_json(|client| client.request(Method::POST, "/tracks").json(&body)).await;
            assert_eq!(status, 201, "{track}");
            site.tracks.push(track["id"].as_str().unwrap().to_owned());
        }
        site
    }

    /// Sends a load, has it stored, and strikes in the middle. Returns how many points were left then, and how long all of it took.
    async fn store_under(&mut self, fault: Fault, load: &[Value]) -> (Fault, u64, Duration) {
        let began = Instant::now();
        let n_late = if fault == Fault::PostgresAway { N_LATE } else { 0 };
        let (at_once, late) = load.split_at(load.len() - n_late);
        self.accept(at_once).await;
        self.worker = Some(self.programs.points_worker(&WORKER));
        let n_left = self.until_in_the_middle(at_once.len() as u64 * BATCH).await;
        match fault {
            Fault::WorkerKilled => {
                self.worker.as_mut().expect("it was started").kill();
                self.worker = Some(self.programs.points_worker(&WORKER));
            }
            Fault::RedisKilled => self.servers.kill_redis().await,
            Fault::PostgresKilled => self.servers.kill_postgres().await,
            Fault::PostgresAway => {
                self.servers.stop_postgres().await;
                let away = Instant::now();
                self.accept(late).await;
                tokio::time::sleep_until((away + OUTAGE).into()).await;
            }
        }
        self.servers.revive().await;
        self.until_drained().await;
        self.worker = None;
        (fault, n_left, began.elapsed())
    }

    /// Nothing strikes what is accepted from. The API may not have its connections to Redis back when a load begins: it then says so, and has
    /// appended nothing.
    async fn accept(&self, load: &[Value]) {
        let sending = stream::iter(load).for_each_concurrent(AT_ONCE, async |body| {
            let answer = self.client.persist_json(|client| client.request(Method::POST, "/points").json(body)).await;
            assert_eq!(answer, (StatusCode::MULTI_STATUS, json!({"accepted": BATCH, "rejected": []})));
        });
        sending.await;
    }

    async fn until_in_the_middle(&self, n_accepted: u64) -> u64 {
        let ctx = self.stores.context(&[]);
        loop {
            let n_left = depth::look(&ctx).await.expect("Redis is up");
            assert!(n_left > 0, "all is stored, and nothing has struck yet");
            if n_left < n_accepted * 4 / 5 {
                return n_left;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_drained(&self) {
        let ctx = self.stores.context(&[]);
        while !depth::look(&ctx).await.is_ok_and(|n_left| n_left == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// After so many loads, and so many sends: stored and dead are what was accepted, and hours are what their points make. Returns the hours.
    async fn check(&self, n_loads: u64, n_sends: u64) -> String {
        let n_dead = N_POINTS / MISSING_EVERY;
        let ctx = self.stores.context(&[]);
        let count = async |table: &str| -> i64 {
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&ctx.pg).await.unwrap()
        };
        let found = (count("points").await, count("points_dead").await);
        let expected = (i64::try_from(n_loads * (N_POINTS - n_dead)).unwrap(), i64::try_from(n_sends * n_dead).unwrap());
        assert_eq!(found, expected, "stored and dead; the logs are in {}", self.programs.logs.display());
        assert_eq!(differing_hours(&ctx).await, None, "hours that are not what their points make");
        all_hours(&ctx).await
    }
}

/// The requests of a load: points of one day, of all tracks in turns.
fn load(day: u64, tracks: &[String]) -> Vec<Value> {
    let start = time::macros::datetime!(2026-11-01 00:00 UTC) + Duration::from_secs(day * 86_400);
    let missing = Uuid::new_v4().to_string();
    let point = |n: u64| {
        let track = if n % MISSING_EVERY == MISSING_EVERY - 1 { &missing } else { &tracks[usize::try_from(n % N_TRACKS).unwrap()] };
        let at = start + Duration::from_secs(n / N_TRACKS);
        json!({
            "track_id": track,
            "recorded_at": at.format(&Rfc3339).unwrap(),
            "lat": 52.0 + (n / N_TRACKS) as f64 * 0.00001,
            "lon": 13.0 + (n % 7) as f64 * 0.0001,
            "speed_mps": (n % 30) as f64 + 0.5,
        })
    };
    (0..N_POINTS / BATCH).map(|batch| json!({"points": (batch * BATCH..(batch + 1) * BATCH).map(point).collect::<Vec<_>>()})).collect()
}
