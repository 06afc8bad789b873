//! One trace, from a request to the job that it submits and to the receiver that the job calls: real processes, and a collector that keeps
//! what it is sent.

use crate::{programs::Program, support::TestApp};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use reqwest::Client;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const CALLERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What came: spans with their service, and `traceparent`s of deliveries.
#[derive(Default)]
struct Arrived {
    spans: Vec<Value>,
    delivered: Vec<String>,
}

/// A collector at `/v1/traces`, and a receiver at `/hook`; returns its address.
fn listen(arrived: &Arc<Mutex<Arrived>>) -> String {
    let arrived = Arc::clone(arrived);
    let server = HttpServer::new(move || {
        let (spans, hooks) = (Arc::clone(&arrived), Arc::clone(&arrived));
        let collect = web::post().to(move |request: HttpRequest, body: web::Json<Value>| {
            assert_eq!(request.headers().get("x-tenant").unwrap(), "millrace");
            let resource = &body["resourceSpans"][0];
            let mut new = resource["scopeSpans"][0]["spans"].as_array().unwrap().clone();
            new.iter_mut().for_each(|span| span["service"] = resource["resource"]["attributes"][0]["value"]["stringValue"].clone());
            spans.lock().unwrap().spans.extend(new);
            async { HttpResponse::Ok().json(json!({})) }
        });
        let receive = web::post().to(move |request: HttpRequest| {
            let traceparent = request.headers().get("traceparent").map(|value| value.to_str().unwrap().to_owned());
            hooks.lock().unwrap().delivered.extend(traceparent);
            async { HttpResponse::NoContent().finish() }
        });
        App::new().app_data(web::JsonConfig::default().limit(4 << 20)).route("/v1/traces", collect).route("/hook", receive)
    });
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    tokio::spawn(server.run());
    format!("http://{address}")
}

async fn until_span(arrived: &Mutex<Arrived>, name: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = arrived.lock().unwrap().spans.iter().find(|span| span["name"] == name).cloned();
        if let Some(span) = found {
            return span;
        }
        assert!(Instant::now() < deadline, "no {name} among {:#?}", arrived.lock().unwrap().spans);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn token(app: &TestApp, client: &Client, url: &str) -> String {
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    let login = client.post(format!("{url}/api/v1/auth/login")).json(&crate::auth::credentials("ada@example.org"));
    login.send().await.unwrap().json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_trace_goes_from_the_request_through_the_job_to_the_receiver() {
    let app = TestApp::start().await;
    let arrived = Arc::<Mutex<Arrived>>::default();
    let outside = listen(&arrived);
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", outside.as_str()), ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=millrace")];
    let (api, url) = Program::api(&app, &settings).await;
    let worker = Program::worker(&app, &settings).await;
    let client = Client::new();
    let token = token(&app, &client, &url).await;
    let job = json!({"kind": "http.request", "payload": {"n": 1}, "target": {"type": "http", "url": format!("{outside}/hook")}});
    let submit = client.post(format!("{url}/api/v1/jobs")).bearer_auth(token).header("traceparent", CALLERS).header("prefer", "wait=10");
    let answer = submit.json(&job).send().await.unwrap();
    let told = answer.headers()["traceparent"].to_str().unwrap().to_owned();
    let job = answer.json::<Value>().await.unwrap();
    assert_eq!(job["state"], "succeeded", "{job}");

    let request = until_span(&arrived, "POST /api/v1/jobs").await;
    let attempt = until_span(&arrived, "job http.request").await;
    let delivery = until_span(&arrived, "deliver").await;
    for span in [&request, &attempt, &delivery] {
        assert_eq!(span["traceId"], CALLERS[3..35], "{span}");
    }
    assert_eq!(request["parentSpanId"], CALLERS[36..52]);
    assert_eq!(request["spanId"], told[36..52]);
    assert_eq!((&attempt["parentSpanId"], &delivery["parentSpanId"]), (&request["spanId"], &attempt["spanId"]));
    assert_eq!((&request["service"], &attempt["service"]), (&json!("millrace-api"), &json!("millrace-jobs")));
    let delivered = arrived.lock().unwrap().delivered.clone();
    assert_eq!(delivered, [format!("00-{}-{}-01", &CALLERS[3..35], delivery["spanId"].as_str().unwrap())]);
    for program in [&api, &worker] {
        assert!(!program.log().contains("the collector"), "{}", program.log());
    }
}

#[tokio::test]
async fn a_trace_id_that_a_caller_chose_has_nothing_kept() {
    // Its low half is the least that there is: of the share that is kept, however small.
    const CHOSEN: &str = "00-0af7651916cd43dd0000000000000000-b7ad6b7169203331-01";
    let app = TestApp::start().await;
    let arrived = Arc::<Mutex<Arrived>>::default();
    let outside = listen(&arrived);
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=millrace");
    let share = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.000000001")];
    let settings = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", outside.as_str()), headers], share.as_slice()].concat();
    let (_api, url) = Program::api(&app, &settings).await;
    let mut worker = Program::worker(&app, &settings).await;
    let client = Client::new();
    let token = token(&app, &client, &url).await;
    let job = json!({"kind": "http.request", "payload": {}, "target": {"type": "http", "url": format!("{outside}/hook")}});
    let submit = client.post(format!("{url}/api/v1/jobs")).bearer_auth(token).header("traceparent", CHOSEN).header("prefer", "wait=10");
    let answer = submit.json(&job).send().await.unwrap();
    assert!(answer.headers()["traceparent"].to_str().unwrap().ends_with("-00"));
    assert_eq!(answer.json::<Value>().await.unwrap()["state"], "succeeded");
    worker.stop().await;
    let arrived = arrived.lock().unwrap();
    let [delivered] = &*arrived.delivered else { panic!("{:?}", arrived.delivered) };
    assert!(delivered.starts_with(&CHOSEN[..36]) && delivered.ends_with("-00"), "{delivered}");
    assert!(arrived.spans.is_empty(), "{:?}", arrived.spans);
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_no_request_no_job_and_no_end() {
    let app = TestApp::start().await;
    // Takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("WORKER_MAX_TASKS_PER_CHILD", "1"), ("DRAIN_DELAY_S", "0")];
    let (mut api, url) = Program::api(&app, &settings).await;
    let mut worker = Program::worker(&app, &settings).await;
    let client = Client::new();
    let token = token(&app, &client, &url).await;
    for _ in 0..5 {
        let submit = client.post(format!("{url}/api/v1/jobs")).bearer_auth(&token).header("prefer", "wait=10");
        let answer = submit.json(&json!({"kind": "debug.echo"})).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["state"], "succeeded");
    }
    worker.stop().await;
    api.stop().await;
}
