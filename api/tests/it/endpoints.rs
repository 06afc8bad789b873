//! `/endpoints`: whose they are, what is refused, and what is shown once.

use crate::{
    auth::{register, token},
    jobs::World,
    support::{send, send_for_problem},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const ALLOW: &[(&str, &str)] = &[("OUTBOUND_ALLOW", "127.0.0.0/8"), ("ENDPOINTS_PER_USER_MAX", "3")];

/// Answers every request with 204; returns where.
async fn receiver() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                drop(stream.read(&mut [0; 4_096]).await);
                drop(stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await);
            });
        }
    });
    url
}

impl World {
    fn create_endpoint(&self, body: &Value) -> reqwest::RequestBuilder {
        self.post("/endpoints").json(body)
    }

    fn on_endpoint(&self, method: Method, id: &Value, more: &str) -> reqwest::RequestBuilder {
        let path = format!("/api/v1/endpoints/{}{more}", id.as_str().unwrap());
        self.app.request(method, &path).bearer_auth(token(&self.ada))
    }
}

#[tokio::test]
async fn an_endpoint_is_made_shown_changed_and_deleted_and_its_secret_told_once() {
    let world = World::with(ALLOW).await;
    let new = json!({"name": "orders", "url": receiver().await, "headers": {"X-Shop": "7"}});
    let (status, made) = send(world.create_endpoint(&new).header("idempotency-key", "once")).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    let (status, again) = send(world.create_endpoint(&new).header("idempotency-key", "once")).await;
    assert_eq!((status, &again["id"], again.get("secret")), (StatusCode::CREATED, &made["id"], None));
    let (_, shown) = send(world.on_endpoint(Method::GET, &made["id"], "")).await;
    assert_eq!((&shown["timeout_ms"], &shown["state"], shown.get("secret")), (&json!(15_000), &json!("active"), None));
    assert_eq!(shown["breaker"], json!({"state": "closed", "until": null, "failures": 0}));
    let patch = |more: Value| world.on_endpoint(Method::PATCH, &made["id"], "").json(&more);
    assert_eq!(send(patch(json!({"timeout_ms": 500}))).await.1["timeout_ms"], 500);
    let stale = patch(json!({"name": "x"})).header("if-match", "\"stale\"");
    assert_eq!(send_for_problem(stale).await, (412, "precondition_failed".to_owned()));
    let (_, rotated) = send(world.on_endpoint(Method::POST, &made["id"], "/rotate-secret")).await;
    assert!(rotated["secret"].as_str().is_some_and(|secret| Some(secret) != made["secret"].as_str()));
    assert_eq!(send(world.on_endpoint(Method::POST, &made["id"], "/pause")).await.1["state"], "paused");
    assert_eq!(send(world.on_endpoint(Method::POST, &made["id"], "/resume")).await.1["state"], "active");
    let (status, trial) = send(world.on_endpoint(Method::POST, &made["id"], "/test")).await;
    assert_eq!((status, &trial["status"]), (StatusCode::OK, &json!(204)), "{trial}");
    assert_eq!(send(world.get("/endpoints")).await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(send(world.on_endpoint(Method::DELETE, &made["id"], "")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send_for_problem(world.on_endpoint(Method::GET, &made["id"], "")).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn where_nothing_may_go_is_refused_when_it_is_told() {
    let world = World::new().await;
    let public = json!({"name": "x", "url": "https://93.184.216.34/"});
    let urls = [
        "http://127.0.0.1/",
        "http://localhost:8000/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.0.0.1]/",
        "http://0x7f.1/",
        "https://user:secret@93.184.216.34/",
        "ftp://93.184.216.34/",
        "http://no-such-host.invalid/",
    ];
    for url in urls {
        let refused = world.create_endpoint(&json!({"name": "x", "url": url}));
        assert_eq!(send_for_problem(refused).await, (422, "validation_failed".to_owned()), "{url}");
    }
    // What is inside and what is not there are told apart by nobody.
    let mut told = Vec::new();
    for url in ["http://localhost:8000/", "http://no-such-host.invalid/", "http://10.0.0.1/"] {
        told.push(send(world.create_endpoint(&json!({"name": "x", "url": url}))).await.1["errors"].clone());
    }
    assert_eq!(told, vec![json!([{"pointer": "/url", "code": "address_not_allowed", "detail": "leads to no public address"}]); 3]);
    // Names are judged when they are dialled.
    for url in urls.iter().filter(|url| !url.contains("localhost") && !url.contains("invalid")) {
        let target = json!({"type": "http", "url": url});
        let submit = world.post("/jobs").json(&json!({"kind": "http.request", "target": target}));
        assert_eq!(send_for_problem(submit).await, (422, "validation_failed".to_owned()), "{url}");
    }
    for (name, value) in [("Host", "x"), ("Webhook-Id", "x"), ("a b", "x"), ("x", "a\r\nb: c"), ("Transfer-Encoding", "chunked")] {
        let mut body = public.clone();
        body["headers"] = json!({name: value});
        assert_eq!(send_for_problem(world.create_endpoint(&body)).await, (422, "validation_failed".to_owned()), "{name}");
    }
    let mut twice = public.clone();
    twice["headers"] = json!({"X-Shop": "7", "x-shop": "8"});
    assert_eq!(send_for_problem(world.create_endpoint(&twice)).await, (422, "validation_failed".to_owned()));
    let (status, made) = send(world.create_endpoint(&public)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let patch = world.on_endpoint(Method::PATCH, &made["id"], "").json(&json!({"url": "http://10.0.0.1/"}));
    assert_eq!(send_for_problem(patch).await, (422, "validation_failed".to_owned()));
}

#[tokio::test]
async fn endpoints_are_their_owners_and_no_more_than_they_may_have() {
    let world = World::with(ALLOW).await;
    let new = json!({"name": "orders", "url": receiver().await});
    let (_, made) = send(world.create_endpoint(&new)).await;
    let bob = register(&world.app, "bob@example.org").await;
    let path = format!("/api/v1/endpoints/{}", made["id"].as_str().unwrap());
    for (method, more) in [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/rotate-secret"), (Method::POST, "/test")] {
        let request = world.app.request(method, &format!("{path}{more}")).bearer_auth(token(&bob));
        assert_eq!(send_for_problem(request).await, (404, "not_found".to_owned()));
    }
    let target = json!({"type": "http", "endpoint_id": made["id"]});
    let submit =
        |who: &Value| world.app.post("/api/v1/jobs").bearer_auth(token(who)).json(&json!({"kind": "http.request", "target": target}));
    assert_eq!(send_for_problem(submit(&bob)).await, (422, "validation_failed".to_owned()));
    assert_eq!(send(submit(&world.ada)).await.0, StatusCode::ACCEPTED);
    for _ in 0..2 {
        assert_eq!(send(world.create_endpoint(&new)).await.0, StatusCode::CREATED);
    }
    assert_eq!(send_for_problem(world.create_endpoint(&new)).await, (409, "conflict".to_owned()));
}

#[tokio::test]
async fn what_is_done_to_an_endpoint_is_in_the_audit_log_and_no_secret_with_it() {
    let world = World::with(ALLOW).await;
    let new = json!({"name": "orders", "url": receiver().await, "headers": {"Authorization": "Bearer hunter2"}, "max_rate": 0.5});
    let (_, made) = send(world.create_endpoint(&new)).await;
    assert_eq!(made["max_rate"], 0.5);
    let patch = |more: Value| send(world.on_endpoint(Method::PATCH, &made["id"], "").json(&more));
    assert_eq!(patch(json!({"timeout_ms": 500})).await.1["max_rate"], 0.5, "what is absent stays");
    assert_eq!(patch(json!({"max_rate": 0})).await.1["max_rate"], Value::Null);
    assert_eq!(patch(json!({"max_rate": -1})).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    for more in ["/pause", "/resume", "/rotate-secret"] {
        send(world.on_endpoint(Method::POST, &made["id"], more)).await;
    }
    send(world.on_endpoint(Method::DELETE, &made["id"], "")).await;
    let log: Vec<(String, Value)> =
        sqlx::query_as("SELECT action, detail FROM audit_log WHERE subject_kind = 'endpoint' AND subject_id::text = $1 ORDER BY id")
            .bind(made["id"].as_str().unwrap())
            .fetch_all(&world.app.state.ctx.pg)
            .await
            .unwrap();
    let actions: Vec<&str> = log.iter().map(|(action, _)| action.as_str()).collect();
    let changes =
        ["endpoint_changed", "endpoint_changed", "endpoint_paused", "endpoint_resumed", "endpoint_secret_rotated", "endpoint_deleted"];
    assert_eq!((actions[0], &actions[1..]), ("endpoint_created", &changes[..]));
    assert!(log.iter().all(|(_, detail)| *detail == json!({"name": "orders"})), "{log:?}");
}

#[tokio::test]
async fn what_is_not_shown_of_headers_stays_when_it_is_sent_back() {
    let world = World::with(ALLOW).await;
    let new = json!({"name": "orders", "url": receiver().await, "headers": {"Authorization": "Bearer hunter2", "X-Shop": "7"}});
    let (_, made) = send(world.create_endpoint(&new)).await;
    let shown = json!({"Authorization": "***", "X-Shop": "7"});
    assert_eq!(made["headers"], shown);
    let patch = |headers: Value| send(world.on_endpoint(Method::PATCH, &made["id"], "").json(&json!({"headers": headers})));
    assert_eq!(patch(json!({"authorization": "***", "X-Shop": "8"})).await.1["headers"], json!({"authorization": "***", "X-Shop": "8"}));
    let kept = || sqlx::query_scalar::<_, Value>("SELECT headers FROM endpoints").fetch_one(&world.app.state.ctx.pg);
    assert_eq!(kept().await.unwrap(), json!({"authorization": "Bearer hunter2", "X-Shop": "8"}));
    let (status, problem) = patch(json!({"X-Api-Key": "***"})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("/headers/X-Api-Key")));
    assert_eq!(patch(json!({"Cookie": "a=b"})).await.1["headers"], json!({"Cookie": "***"}));
    assert_eq!(kept().await.unwrap(), json!({"Cookie": "a=b"}));
}

#[tokio::test]
async fn what_is_not_shown_of_headers_goes_to_no_other_origin() {
    let world = World::with(ALLOW).await;
    let (here, elsewhere) = (receiver().await, receiver().await);
    let secrets = json!({"Authorization": "Bearer hunter2", "X-Api-Key": "k", "X-Shop": "7"});
    let (_, made) = send(world.create_endpoint(&json!({"name": "orders", "url": here, "headers": secrets}))).await;
    let patch = |change: Value| send(world.on_endpoint(Method::PATCH, &made["id"], "").json(&change));
    let kept = || sqlx::query_as::<_, (String, Value)>("SELECT url, headers FROM endpoints").fetch_one(&world.app.state.ctx.pg);
    let moves = [
        (json!({"url": elsewhere}), ["/headers/Authorization", "/headers/X-Api-Key"].as_slice()),
        (json!({"url": here.replace("http:", "https:")}), &["/headers/Authorization", "/headers/X-Api-Key"]),
        (json!({"url": here.replace("127.0.0.1", "127.0.0.2")}), &["/headers/Authorization", "/headers/X-Api-Key"]),
        (json!({"url": elsewhere, "headers": {"authorization": "***", "X-Api-Key": "new"}}), &["/headers/authorization"]),
    ];
    for (change, pointers) in moves {
        let (status, problem) = patch(change.clone()).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("validation_failed")), "{change}: {problem}");
        let told: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(told, pointers, "{change}");
        for pointer in pointers {
            assert!(problem["detail"].as_str().unwrap().contains(pointer.rsplit('/').next().unwrap()), "{problem}");
        }
        assert_eq!(kept().await.unwrap(), (here.clone(), secrets.clone()), "{change}");
    }
    let beside = format!("{here}/v2");
    assert_eq!(patch(json!({"url": beside})).await.0, StatusCode::OK, "the same origin has had them");
    assert_eq!(kept().await.unwrap(), (beside, secrets));
    let anew = json!({"Authorization": "Bearer other", "X-Shop": "7"});
    assert_eq!(patch(json!({"url": elsewhere, "headers": anew})).await.0, StatusCode::OK);
    assert_eq!(kept().await.unwrap(), (elsewhere, anew));
    // What is shown may go along.
    assert_eq!(patch(json!({"headers": {"X-Shop": "7"}})).await.0, StatusCode::OK);
    assert_eq!(patch(json!({"url": here})).await.0, StatusCode::OK);
    assert_eq!(kept().await.unwrap(), (here, json!({"X-Shop": "7"})));
}

#[tokio::test]
async fn every_callback_that_is_not_one_is_the_same_404() {
    let world = World::new().await;
    let call = |token: &str, body: Value| world.app.post(&format!("/api/v1/callbacks/{token}")).json(&body);
    let mut answers = Vec::new();
    for token in ["x", &"x".repeat(43), &"%20".repeat(43), &"x".repeat(2_000)] {
        let (status, mut problem) = send(call(token, json!({"outcome": "ok"}))).await;
        problem["request_id"] = Value::Null;
        answers.push((status, problem));
    }
    assert_eq!(answers[0].0, StatusCode::NOT_FOUND);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let unfit = [
        (json!({"outcome": "fail"}), "/error"),
        (json!({"outcome": "fail", "error": {"code": "", "message": "y"}}), "/error/code"),
        (json!({"outcome": "fail", "error": {"code": " \t", "message": "y"}}), "/error/code"),
        (json!({"outcome": "ok", "error": {"code": "x", "message": "y"}}), "/error"),
    ];
    for (body, pointer) in unfit {
        let (status, problem) = send(call("x", body)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("validation_failed")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    assert_eq!(send_for_problem(call("x", json!({"outcome": "maybe"}))).await.0, 400);
}

#[tokio::test]
async fn callbacks_are_limited_by_address() {
    let world = World::with(&[("RATE_LIMITS", "on"), ("RATE_LIMIT_WRITE", "5/h")]).await;
    let call = || world.app.post("/api/v1/callbacks/x").json(&json!({"outcome": "ok"}));
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(send(call()).await.0.as_u16());
    }
    assert_eq!(statuses[6], 429, "{statuses:?}");
}
