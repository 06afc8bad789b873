//! `POST /api/{method}`: the shapes that the libraries of other backends expect.

use super::{World, connections::orders};
use crate::support::{send, send_for_problem};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use shared::channels::{presence, sessions};

const KEY: &str = "a-key-of-another-backend";

async fn world() -> World {
    World::with(&[("CHANNEL_API_KEY", KEY)]).await
}

fn call(world: &World, method: &str, params: &Value) -> RequestBuilder {
    world.app.post(&format!("/api/{method}")).header("x-api-key", KEY).json(params)
}

/// What comes of it; the status is always 200.
async fn answer(request: RequestBuilder) -> Value {
    let (status, answer) = send(request).await;
    assert_eq!(status, 200);
    answer
}

async fn result(world: &World, method: &str, params: Value) -> Value {
    let answer = answer(call(world, method, &params)).await;
    assert!(answer["error"].is_null(), "{method} {params}: {answer}");
    answer["result"].clone()
}

async fn error(world: &World, method: &str, params: Value) -> u64 {
    answer(call(world, method, &params)).await["error"]["code"].as_u64().unwrap()
}

#[tokio::test]
async fn a_key_is_asked_for_in_its_newer_and_older_form() {
    let world = world().await;
    let params = json!({"channel": "chat:a", "data": 1});
    let bare = || world.app.post("/api/publish").json(&params);
    assert_eq!(send_for_problem(bare()).await, (401, "unauthenticated".to_owned()));
    assert_eq!(send_for_problem(bare().header("x-api-key", "another-key-altogether")).await.0, 401);
    for request in [bare().header("x-api-key", KEY), bare().header("authorization", format!("apikey {KEY}"))] {
        assert!(answer(request).await["result"]["offset"].is_u64());
    }
    let unset = World::new().await;
    assert_eq!(send_for_problem(call(&unset, "publish", &params)).await.0, 401);
}

#[tokio::test]
async fn publications_are_made_read_and_forgotten() {
    let world = world().await;
    let publish = json!({"channel": "chat:a", "data": {"n": 1}, "tags": {"t": "1"}, "idempotency_key": "k", "of_a_newer_server": true});
    let first = result(&world, "publish", publish.clone()).await;
    assert_eq!(result(&world, "publish", publish).await, first);
    let in_base64 = json!({"channel": "chat:a", "b64data": "eyJuIjoyfQ=="});
    assert_eq!(result(&world, "publish", in_base64).await["offset"], 2);
    assert_eq!(result(&world, "publish", json!({"channel": "chat:a", "data": 3, "skip_history": true})).await, json!({}));
    let history = result(&world, "history", json!({"channel": "chat:a", "limit": -1})).await;
    let kept = json!([{"offset": 1, "data": {"n": 1}, "tags": {"t": "1"}}, {"offset": 2, "data": {"n": 2}}]);
    assert_eq!(history, json!({"publications": kept, "offset": 2, "epoch": first["epoch"]}));
    let since = json!({"channel": "chat:a", "limit": 5, "since": {"offset": 1, "epoch": first["epoch"]}});
    assert_eq!(result(&world, "history", since).await["publications"][0]["offset"], 2);
    assert_eq!(result(&world, "history", json!({"channel": "chat:a"})).await["publications"], json!([]));
    assert_eq!(result(&world, "history_remove", json!({"channel": "chat:a"})).await, json!({}));
    assert_eq!(result(&world, "history", json!({"channel": "chat:a", "limit": -1})).await["publications"], json!([]));
}

#[tokio::test]
async fn a_broadcast_answers_for_each_channel() {
    let world = world().await;
    let answer = result(&world, "broadcast", json!({"channels": ["chat:a", "nowhere:b", "system"], "data": 1})).await;
    let responses = answer["responses"].as_array().unwrap();
    assert_eq!((&responses[0]["result"]["offset"], &responses[1]["error"]["code"]), (&json!(1), &json!(102)));
    assert_eq!(responses[2]["result"]["offset"], 1, "a backend is trusted with every channel");
}

#[tokio::test]
async fn what_cannot_be_done_has_the_code_that_the_libraries_know() {
    let world = world().await;
    assert_eq!(error(&world, "publish", json!({"channel": "nowhere:a", "data": 1})).await, 102);
    assert_eq!(error(&world, "publish", json!({"channel": "chat:a"})).await, 107);
    assert_eq!(error(&world, "publish", json!({"channel": "chat:a", "b64data": "//"})).await, 107);
    assert_eq!(error(&world, "publish", json!({"channel": 1, "data": 1})).await, 107);
    assert_eq!(error(&world, "dance", json!({})).await, 104);
    assert_eq!(error(&world, "presence", json!({"channel": "public:a"})).await, 108);
    assert_eq!(error(&world, "history", json!({"channel": "chat:a", "since": {"offset": 1, "epoch": "x"}})).await, 112);
    assert_eq!(error(&world, "disconnect", json!({"user": "1", "session": "s"})).await, 108);
    let garbage = world.app.post("/api/publish").header("x-api-key", KEY).body("{");
    assert_eq!(answer(garbage).await["error"]["code"], 107);
}

#[tokio::test]
async fn orders_reach_every_process() {
    let world = world().await;
    let mut next_order = orders(&world).await;
    let to = json!({"user": "7", "client": "c"});
    result(&world, "subscribe", json!({"user": "7", "client": "c", "channel": "chat:a", "info": {"i": 1}, "data": {"d": 1}})).await;
    let subscribe = json!({"subscribe": {"to": to, "channel": "chat:a", "chan_info": {"i": 1}, "data": {"d": 1}}});
    assert_eq!(next_order().await, subscribe);
    result(&world, "unsubscribe", json!({"user": "7", "client": "c", "channel": "chat:a"})).await;
    let unsubscribe = json!({"unsubscribe": {"to": to, "channel": "chat:a", "code": 2000, "reason": "server unsubscribe"}});
    assert_eq!(next_order().await, unsubscribe);
    result(&world, "disconnect", json!({"user": "7", "whitelist": ["c"], "disconnect": {"code": 4501, "reason": "bye"}})).await;
    let disconnect = json!({"disconnect": {"to": {"user": "7"}, "code": 4501, "reason": "bye", "except": ["c"]}});
    assert_eq!(next_order().await, disconnect);
    result(&world, "refresh", json!({"user": "7", "expire_at": 1_900_000_000})).await;
    assert_eq!(next_order().await, json!({"refresh": {"to": {"user": "7"}, "expired": false, "expires_at": 1_900_000_000}}));
}

#[tokio::test]
async fn a_batch_replies_to_each_command_under_its_name() {
    let world = world().await;
    let publish = json!({"publish": {"channel": "chat:a", "data": 1}});
    let commands = json!([publish, {"dance": {}}, {"history": {"channel": "chat:a"}}, {}]);
    for parallel in [false, true] {
        let answer = answer(call(&world, "batch", &json!({"commands": commands, "parallel": parallel}))).await;
        let replies = answer["replies"].as_array().unwrap();
        assert!(replies[0]["publish"]["offset"].is_u64(), "{answer}");
        assert_eq!((&replies[1]["error"]["code"], &replies[3]["error"]["code"]), (&json!(104), &json!(107)));
        assert_eq!(replies[2]["history"]["publications"], json!([]));
    }
}

#[tokio::test]
async fn channels_and_nodes_are_listed() {
    let world = world().await;
    let mut listener = world.app.state.ctx.redis.pubsub().await.unwrap();
    for channel in ["chat:a", "chat:b", "public:a"] {
        listener.subscribe(world.app.state.ctx.keys.channel(channel)).await.unwrap();
    }
    let all = result(&world, "channels", json!({})).await;
    assert_eq!(all["channels"].as_object().unwrap().len(), 3);
    assert_eq!(all["channels"]["public:a"], json!({}), "it keeps no presence");
    let some = result(&world, "channels", json!({"pattern": "chat:*"})).await;
    assert_eq!(some, json!({"channels": {"chat:a": {"num_clients": 0}, "chat:b": {"num_clients": 0}}}));
    assert!(result(&world, "info", json!({})).await["nodes"].is_array());
}

#[tokio::test]
async fn an_api_key_of_ours_may_what_its_user_may() {
    let world = world().await;
    let scopes = ["channels:read", "channels:publish"];
    let (users, admins) = (world.key(&world.ada, &scopes).await, world.key(&world.admin, &scopes).await);
    let call = async |key: &str, method: &str, params: Value| {
        answer(world.app.post(&format!("/api/{method}")).header("x-api-key", key).json(&params)).await["error"]["code"].clone()
    };
    let publish = |channel: &str| json!({"channel": channel, "data": 1});
    assert_eq!(call(&users, "publish", publish("chat:a")).await, Value::Null);
    assert_eq!(call(&users, "publish", publish("public:a")).await, 103);
    assert_eq!(call(&users, "disconnect", json!({"user": "7"})).await, 103);
    assert_eq!(call(&admins, "publish", publish("public:a")).await, Value::Null);
    assert_eq!(call(&admins, "disconnect", json!({"user": "7"})).await, Value::Null);
    let reader = world.key(&world.admin, &["channels:read"]).await;
    assert_eq!(call(&reader, "publish", publish("chat:a")).await, 103);
}

#[tokio::test]
async fn who_is_subscribed_is_told_as_the_libraries_read_it() {
    let world = world().await;
    let ctx = &world.app.state.ctx;
    let info = serde_json::from_value(json!({"user": "7", "client": "c1", "conn_info": {"name": "Ada"}})).unwrap();
    presence::join(ctx, &ctx.namespaces.resolve("chat:a").unwrap(), &info).await.unwrap();
    let listed = result(&world, "presence", json!({"channel": "chat:a"})).await;
    assert_eq!(listed, json!({"presence": {"c1": {"user": "7", "client": "c1", "conn_info": {"name": "Ada"}}}}));
    assert_eq!(result(&world, "presence_stats", json!({"channel": "chat:a"})).await, json!({"num_clients": 1, "num_users": 1}));
}

#[tokio::test]
async fn a_users_later_connections_are_subscribed_too_until_that_is_taken_back() {
    let world = world().await;
    let remembered = async || sessions::remembered(&world.app.state.ctx, "7").await.unwrap();
    result(&world, "subscribe", json!({"user": "7", "channel": "chat:a"})).await;
    result(&world, "subscribe", json!({"user": "7", "client": "c", "channel": "chat:b"})).await;
    let channels: Vec<String> = remembered().await.iter().map(|subscription| subscription.channel.to_string()).collect();
    assert_eq!(channels, ["chat:a"], "one connection's are its own");
    result(&world, "unsubscribe", json!({"user": "7", "channel": "chat:a"})).await;
    assert_eq!(remembered().await.len(), 0);
}
