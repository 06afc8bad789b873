//! `ai.complete` by a real worker, asking a language model of our own that is not always what it should be.

mod model;

use crate::{
    events::{heard, subscribe},
    world::{WorkerProcess, World},
};
use model::{FakeModel, KEY, Step};
use serde_json::{Value, json};
use shared::{
    ids::JobId,
    jobs::{Job, JobState, cancel},
};
use std::time::Duration;

impl World {
    async fn asking(model: &FakeModel, more: &[(&str, &str)]) -> Self {
        let mut settings = vec![("AI_BASE_URL", model.url.as_str()), ("AI_API_KEY", KEY), ("AI_MODEL", "small,large")];
        settings.extend(more);
        Self::with(&settings).await
    }

    /// One that no caller could have deliver to the model: where that is, is the operator's business.
    fn answering(&self) -> WorkerProcess {
        self.worker(&[("OUTBOUND_ALLOW", ""), ("OUTBOUND_BREAKER_MS", "10")])
    }

    async fn ask(&self, more: Value) -> JobId {
        let mut body = json!({"kind": "ai.complete", "payload": {"prompt": "Who are you?"}, "retry": {"max_attempts": 1}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.submit(body).await
    }

    /// Of what code the job died that was asked so.
    async fn asked_and_died_of(&self, more: Value) -> String {
        let id = self.ask(more).await;
        self.until(id, JobState::Dead).await.error.unwrap().code
    }
}

fn result(job: &Job) -> Value {
    serde_json::from_str(job.result.as_ref().unwrap().get()).unwrap()
}

#[tokio::test]
async fn a_completion_is_told_as_it_comes_and_kept_whole_with_what_it_used() {
    let model = FakeModel::start(|_| model::answer(&["I am ", "Mühle", "."])).await;
    let world = World::asking(&model, &[]).await;
    let id = world.ask(json!({"delay_ms": 300, "payload": {"prompt": "Who are you?", "model": "large", "max_tokens": 9}})).await;
    let (_link, deliveries) = subscribe(&world, id).await;
    let _worker = world.answering();
    let heard = heard(deliveries).await;
    let parts: Vec<&Value> = heard.iter().filter(|event| event["event"] == "delta").collect();
    let text: String = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
    assert_eq!((text.as_str(), &parts[0]["from"], &parts[0]["attempt"]), ("I am Mühle.", &json!(0), &json!(1)));
    let usage = json!({"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7});
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(result(&job), json!({"text": "I am Mühle.", "model": "fake-1", "finish_reason": "stop", "usage": usage}));
    let asked = model.asked();
    assert!(asked[0].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", asked[0].head);
    assert!(asked[0].head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{}", asked[0].head);
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!((&body["model"], &body["max_tokens"], &body["stream"]), (&json!("large"), &json!(9), &json!(true)));
    assert_eq!(body["messages"], json!([{"role": "user", "content": "Who are you?"}]));
}

#[tokio::test]
async fn one_that_does_not_stream_answers_as_well() {
    let model = FakeModel::start(|_| {
        let body =
            json!({"model": "fake-1", "choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "length"}]});
        vec![Step::status(200, "content-type: application/json\r\n", &body.to_string())]
    });
    let model = model.await;
    let world = World::asking(&model, &[]).await;
    let _worker = world.answering();
    let id = world.ask(json!({})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(result(&job), json!({"text": "Hello.", "model": "fake-1", "finish_reason": "length", "usage": null}));
}

#[tokio::test]
async fn whatever_a_model_answers_the_job_ends_within_its_bounds() {
    let settings = [("AI_TIMEOUT_MS", "800"), ("AI_ANSWER_MAX_BYTES", "1MiB")];
    let model = FakeModel::start(|n| match n {
        0 => vec![Step::Hang],
        1 => vec![Step::head(), Step::bit("I"), Step::Hang],
        2 => vec![Step::head(), Step::Send("data: {\"choices\": nonsense\n\n".to_owned())],
        3 => vec![Step::head(), Step::bit("I am"), Step::Close],
        4 => vec![Step::status(500, "", "broken")],
        5 => vec![Step::head(), Step::Send("data: {\"error\": {\"message\": \"overheated\"}}\n\n".to_owned())],
        6 => vec![Step::status(400, "", "too many words")],
        7 => vec![Step::status(401, "", &format!("who is {KEY}?"))],
        8 => vec![Step::status(302, "location: http://127.0.0.1:1/\r\n", "")],
        9 => vec![Step::head(), Step::Flood],
        _ => model::answer(&["fine"]),
    })
    .await;
    let world = World::asking(&model, &settings).await;
    let _worker = world.answering();
    let codes = [
        "ai_timeout",
        "ai_timeout",
        "ai_garbage",
        "ai_broken",
        "ai_unavailable",
        "ai_error",
        "ai_refused",
        "ai_misconfigured",
        "ai_misconfigured",
        "ai_too_long",
    ];
    for code in codes {
        assert_eq!(world.asked_and_died_of(json!({})).await, code, "after {} questions", model.asked().len());
    }
    let id = world.ask(json!({})).await;
    world.until(id, JobState::Succeeded).await;
    let told: Vec<String> = sqlx::query_scalar("SELECT error_message FROM job_attempts WHERE error_code = 'ai_misconfigured'")
        .fetch_all(&world.ctx.pg)
        .await
        .unwrap();
    assert!(told.len() == 2 && told.iter().all(|text| !text.contains(KEY)), "the key is told to nobody: {told:?}");
    assert!(told.iter().any(|text| text.contains("who is ***?")), "{told:?}");
}

#[tokio::test]
async fn a_model_with_too_much_to_do_is_asked_later_and_no_attempt_is_spent() {
    let model = FakeModel::start(|n| match n {
        0 => vec![Step::status(429, "retry-after: 1\r\n", "")],
        1 => vec![Step::status(503, "retry-after: 1\r\n", "")],
        _ => model::answer(&["at last"]),
    });
    let model = model.await;
    let world = World::asking(&model, &[]).await;
    let _worker = world.answering();
    let id = world.ask(json!({"retry": {"max_attempts": 2, "base_ms": 600_000, "max_ms": 600_000}})).await;
    assert_eq!(result(&world.until(id, JobState::Succeeded).await)["text"], "at last");
    assert_eq!((world.failed_attempts(id).await, world.failures(id).await), (vec!["failed".to_owned()], 1), "the 503 alone");
}

#[tokio::test]
async fn a_model_that_is_down_is_left_alone_and_waiting_for_it_spends_no_attempt() {
    let model = FakeModel::start(|n| if n < 5 { vec![Step::status(500, "", "")] } else { model::answer(&["back"]) }).await;
    let world = World::asking(&model, &[]).await;
    let _worker = world.worker(&[("WORKER_CONCURRENCY", "1")]);
    for _ in 0..5 {
        assert_eq!(world.asked_and_died_of(json!({})).await, "ai_unavailable");
    }
    let waiting = world.ask(json!({})).await;
    let job = world.until_job(waiting, "postponed", |job| job.state == JobState::Scheduled && job.attempt > 0).await;
    assert_eq!((job.error, world.failures(waiting).await, model.asked().len()), (None, 0, 5));
    assert_eq!(result(&world.until(waiting, JobState::Succeeded).await)["text"], "back");
}

#[tokio::test]
async fn a_cancel_ends_the_stream() {
    let model = FakeModel::start(|_| vec![Step::head(), Step::bit("I"), Step::Hang]).await;
    let world = World::asking(&model, &[("AI_TIMEOUT_MS", "60000")]).await;
    let _worker = world.answering();
    let id = world.ask(json!({})).await;
    world.until(id, JobState::Running).await;
    model.was_asked(1).await;
    cancel::cancel(&world.ctx, &world.caller, id).await.unwrap();
    world.until(id, JobState::Cancelled).await;
    model.was_hung_up_on(1).await;
}

#[tokio::test]
async fn a_jobs_own_limit_takes_the_place_of_the_setting() {
    let model = FakeModel::start(|_| {
        let mut steps = model::answer(&["slowly"]);
        steps.insert(1, Step::Pause(Duration::from_millis(600)));
        steps
    });
    let model = model.await;
    let world = World::asking(&model, &[("AI_TIMEOUT_MS", "300")]).await;
    let _worker = world.answering();
    assert_eq!(world.asked_and_died_of(json!({})).await, "ai_timeout");
    let id = world.ask(json!({"timeout_ms": 20_000})).await;
    assert_eq!(result(&world.until(id, JobState::Succeeded).await)["text"], "slowly");
}

#[tokio::test]
async fn nobody_asks_without_a_model_and_nobody_chooses_where_it_is() {
    let nowhere = World::new().await;
    let refused = nowhere.refused(json!({"kind": "ai.complete", "payload": {"prompt": "Who are you?"}})).await;
    assert_eq!(refused.fields[0].code, "not_configured");
    let world = World::with(&[("AI_BASE_URL", "http://127.0.0.1:1/v1"), ("AI_MODEL", "small")]).await;
    for payload in [
        json!({"prompt": "x", "base_url": "http://169.254.169.254/"}),
        json!({"prompt": "x", "model": "large"}),
        json!({"prompt": "x".repeat(70_000)}),
        json!({"messages": []}),
        json!("x"),
    ] {
        let refused = world.refused(json!({"kind": "ai.complete", "payload": payload})).await;
        assert_eq!(refused.code.as_str(), "validation_failed", "{payload}");
    }
}
