//! `/channels`, `/broadcasts`, `/connections`, `/users/{id}/disconnect` and `/system/send`. [`server_api`] is `/api/{method}`.

mod broadcasts;
mod connections;
mod server_api;

use crate::{
    auth::{register, register_admin, token},
    support::{TestApp, send, send_for_problem},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use shared::channels::presence;

/// A server, a user and an admin.
struct World {
    app: TestApp,
    ada: Value,
    admin: Value,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(overrides: &[(&str, &str)]) -> Self {
        let app = TestApp::start_with(overrides).await;
        let admin = register_admin(&app).await;
        let ada = register(&app, "ada@example.org").await;
        Self { app, ada, admin }
    }

    fn publish(&self, who: &Value, channel: &str, body: &Value) -> RequestBuilder {
        self.app.post(&format!("/api/v1/channels/{channel}/publications")).bearer_auth(token(who)).json(body)
    }

    fn get(&self, who: &Value, path: &str) -> RequestBuilder {
        self.app.get(&format!("/api/v1{path}")).bearer_auth(token(who))
    }

    fn post(&self, who: &Value, path: &str, body: &Value) -> RequestBuilder {
        self.app.post(path).bearer_auth(token(who)).json(body)
    }

    async fn history(&self, channel: &str) -> Value {
        send(self.get(&self.admin, &format!("/channels/{channel}/publications"))).await.1
    }

    /// A key of this session with these scopes.
    async fn key(&self, who: &Value, scopes: &[&str]) -> String {
        let body = json!({"name": "backend", "scopes": scopes});
        send(self.post(who, "/api/v1/api-keys", &body)).await.1["key"].as_str().unwrap().to_owned()
    }
}

fn user_id(session: &Value) -> &str {
    session["user"]["id"].as_str().unwrap()
}

#[tokio::test]
async fn what_is_published_is_there_to_be_read_with_who_and_when() {
    let world = World::new().await;
    let body = json!({"data": {"text": "hi"}, "tags": {"lang": "en"}});
    let (status, first) = send(world.publish(&world.ada, "chat:lobby", &body)).await;
    assert_eq!((status.as_u16(), &first["offset"]), (201, &json!(1)));
    send(world.publish(&world.ada, "chat:lobby", &json!({"data": null}))).await;
    let (_, page) = send(world.get(&world.ada, "/channels/chat:lobby/publications")).await;
    assert_eq!((&page["offset"], &page["epoch"]), (&json!(2), &first["epoch"]));
    let publication = &page["publications"][0];
    assert_eq!((&publication["data"], &publication["tags"]), (&body["data"], &body["tags"]));
    assert_eq!(publication["info"], json!({"user": user_id(&world.ada), "client": ""}));
    assert!(publication["published_at"].is_string(), "{publication}");
}

#[tokio::test]
async fn history_is_read_from_an_offset_in_both_directions() {
    let world = World::new().await;
    for n in 1..=3 {
        send(world.publish(&world.ada, "chat:lobby", &json!({"data": n}))).await;
    }
    let data = async |query: &str| {
        let (_, page) = send(world.get(&world.ada, &format!("/channels/chat:lobby/publications?{query}"))).await;
        page["publications"].as_array().unwrap().iter().map(|publication| publication["data"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(data("since_offset=1").await, [2, 3]);
    assert_eq!(data("since_offset=3&reverse=true&limit=1").await, [2]);
    assert_eq!(data("limit=0").await, Vec::<i64>::new());
    let get = |query: &str| world.get(&world.ada, &format!("/channels/chat:lobby/publications?{query}"));
    assert_eq!(send_for_problem(get("since_offset=1&since_epoch=other")).await, (409, "conflict".to_owned()));
    assert_eq!(send_for_problem(get("limit=-1")).await, (400, "invalid_query".to_owned()));
}

#[tokio::test]
async fn a_repeat_with_the_same_key_publishes_nothing() {
    let world = World::new().await;
    let with_header = |body: &Value| world.publish(&world.ada, "chat:lobby", body).header("idempotency-key", "k1");
    let first = send(with_header(&json!({"data": 1}))).await;
    let again = with_header(&json!({"data": 1})).send().await.unwrap();
    assert_eq!((again.status().as_u16(), &again.headers()["idempotency-replayed"]), (201, &"true".parse().unwrap()));
    assert_eq!(again.json::<Value>().await.unwrap(), first.1);
    assert_eq!(send_for_problem(with_header(&json!({"data": 2}))).await, (422, "idempotency_key_reused".to_owned()));
    let elsewhere = world.publish(&world.ada, "chat:other", &json!({"data": 1})).header("idempotency-key", "k1");
    assert_eq!(send_for_problem(elsewhere).await, (422, "idempotency_key_reused".to_owned()));
    let in_body = json!({"data": 3, "idempotency_key": "k2"});
    let positions =
        [send(world.publish(&world.ada, "chat:lobby", &in_body)).await, send(world.publish(&world.ada, "chat:lobby", &in_body)).await];
    assert_eq!(positions[0], positions[1]);
    send(world.publish(&world.admin, "chat:lobby", &in_body)).await;
    assert_eq!(world.history("chat:lobby").await["offset"], 3, "another user's key is another key");
}

#[tokio::test]
async fn namespaces_say_who_may_publish_and_read() {
    let world = World::new().await;
    let publish = |who: &Value, channel: &str| world.publish(who, channel, &json!({"data": 1}));
    assert_eq!(send_for_problem(publish(&world.ada, "public:news")).await, (403, "forbidden".to_owned()));
    assert_eq!(send(publish(&world.admin, "public:news")).await.0, 201);
    assert_eq!(send_for_problem(publish(&world.ada, "nowhere:1")).await, (404, "not_found".to_owned()));
    let own = format!("user:%23{}", user_id(&world.ada));
    let others = format!("user:%23{}", user_id(&world.admin));
    let read = |channel: &str| world.get(&world.ada, &format!("/channels/{channel}/publications"));
    assert_eq!(send(read(&own)).await.0, 200);
    assert_eq!(send_for_problem(read(&others)).await, (403, "forbidden".to_owned()));
    assert_eq!(send_for_problem(world.get(&world.ada, "/channels/track:7/presence")).await, (403, "forbidden".to_owned()));
    assert_eq!(send_for_problem(world.get(&world.admin, "/channels/track:7/presence")).await, (409, "conflict".to_owned()));
}

#[tokio::test]
async fn a_key_needs_the_scope_of_what_it_does() {
    let world = World::new().await;
    let (reader, writer) = (world.key(&world.ada, &["channels:read"]).await, world.key(&world.ada, &["channels:publish"]).await);
    let path = "/api/v1/channels/chat:lobby/publications";
    let publish = |key: &str| world.app.post(path).header("x-api-key", key).json(&json!({"data": 1}));
    assert_eq!(send_for_problem(publish(&reader)).await, (403, "insufficient_scope".to_owned()));
    assert_eq!(send(publish(&writer)).await.0, 201);
    assert_eq!(send(world.app.get(path).header("x-api-key", &reader)).await.0, 200);
    assert_eq!(send_for_problem(world.app.get(path).header("x-api-key", &writer)).await, (403, "insufficient_scope".to_owned()));
}

#[tokio::test]
async fn too_large_too_deep_and_unknown_fields_are_refused() {
    let world = World::new().await;
    let publish = |body: &Value| world.publish(&world.ada, "chat:lobby", body);
    let large = json!({"data": "x".repeat(65 << 10)});
    assert_eq!(send_for_problem(publish(&large)).await, (422, "validation_failed".to_owned()));
    let deep = (0..101).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(send_for_problem(publish(&json!({"data": deep}))).await, (400, "json_too_deep".to_owned()));
    assert_eq!(send_for_problem(publish(&json!({"data": 1, "loud": true}))).await, (400, "invalid_json".to_owned()));
    assert_eq!(send_for_problem(publish(&json!({"tags": {}}))).await, (400, "invalid_json".to_owned()));
    assert_eq!(send_for_problem(publish(&json!({"data": 1, "idempotency_key": ""}))).await, (422, "validation_failed".to_owned()));
}

#[tokio::test]
async fn operators_remove_history_and_the_position_stays() {
    let world = World::new().await;
    send(world.publish(&world.ada, "chat:lobby", &json!({"data": 1}))).await;
    let remove = |who: &Value| world.app.request(Method::DELETE, "/api/v1/channels/chat:lobby/publications").bearer_auth(token(who));
    assert_eq!(send_for_problem(remove(&world.ada)).await, (403, "forbidden".to_owned()));
    assert_eq!(send(remove(&world.admin)).await.0, 204);
    let page = world.history("chat:lobby").await;
    assert_eq!((&page["publications"], &page["offset"]), (&json!([]), &json!(1)));
    let (_, log) = send(world.get(&world.admin, "/audit?limit=1")).await;
    assert_eq!((&log["items"][0]["action"], &log["items"][0]["detail"]["channel"]), (&json!("history_removed"), &json!("chat:lobby")));
}

#[tokio::test]
async fn admins_speak_to_everybody_at_both_paths() {
    let world = World::new().await;
    let message = json!({"message": "Going down at ten.", "level": "warning"});
    for path in ["/api/v1/system/send", "/system/send"] {
        assert_eq!(send_for_problem(world.post(&world.ada, path, &message)).await, (403, "insufficient_scope".to_owned()));
        assert_eq!(send(world.post(&world.admin, path, &message)).await.0, 201);
    }
    let page = send(world.get(&world.ada, "/channels/system/publications")).await.1;
    assert_eq!((&page["publications"][1]["data"], &page["publications"][1]["info"]), (&message, &Value::Null));
    let (_, log) = send(world.get(&world.admin, "/audit?limit=1")).await;
    assert_eq!(log["items"][0]["action"], "system_message_sent");
}

#[tokio::test]
async fn operators_list_the_channels_that_somebody_is_subscribed_to() {
    let world = World::new().await;
    let mut listener = world.app.state.ctx.redis.pubsub().await.unwrap();
    for channel in ["chat:b", "public:c", "chat:a"] {
        listener.subscribe(world.app.state.ctx.keys.channel(channel)).await.unwrap();
    }
    assert_eq!(send_for_problem(world.get(&world.ada, "/channels")).await, (403, "forbidden".to_owned()));
    let (_, first) = send(world.get(&world.admin, "/channels?limit=2")).await;
    assert_eq!(first["items"], json!([{"name": "chat:a", "num_clients": 0}, {"name": "chat:b", "num_clients": 0}]));
    let next = first["next_cursor"].as_str().unwrap();
    let (_, last) = send(world.get(&world.admin, &format!("/channels?cursor={next}"))).await;
    assert_eq!(last, json!({"items": [{"name": "public:c", "num_clients": null}], "next_cursor": null}));
}

#[tokio::test]
async fn who_is_subscribed_is_listed_and_counted() {
    let world = World::new().await;
    let (ctx, channel) = (&world.app.state.ctx, world.app.state.ctx.namespaces.resolve("chat:lobby").unwrap());
    for (client, user) in [("c1", "7"), ("c2", "7"), ("c3", "")] {
        let info = serde_json::from_value(json!({"user": user, "client": client, "chan_info": {"n": client}})).unwrap();
        presence::join(ctx, &channel, &info).await.unwrap();
    }
    let (_, listed) = send(world.get(&world.ada, "/channels/chat:lobby/presence")).await;
    assert_eq!(listed["presence"].as_object().unwrap().len(), 3);
    assert_eq!(listed["presence"]["c2"], json!({"user": "7", "client": "c2", "chan_info": {"n": "c2"}}));
    let (_, stats) = send(world.get(&world.ada, "/channels/chat:lobby/presence-stats")).await;
    assert_eq!(stats, json!({"num_clients": 3, "num_users": 2}));

    fill_presence(ctx, "chat:lobby").await;
    let refused = send_for_problem(world.get(&world.ada, "/channels/chat:lobby/presence")).await;
    assert_eq!(refused, (422, "validation_failed".to_owned()));
    let (_, stats) = send(world.get(&world.ada, "/channels/chat:lobby/presence-stats")).await;
    assert_eq!(stats, json!({"num_clients": 67, "num_users": 3}));
}

/// With 64 clients whose infos are more than a list may have.
pub(crate) async fn fill_presence(ctx: &shared::Context, channel: &str) {
    let channel = ctx.namespaces.resolve(channel).unwrap();
    for n in 0..64 {
        let info = json!({"user": "8", "client": format!("full{n}"), "conn_info": "x".repeat(presence::PRESENCE_LIST_BYTES_MAX / 64)});
        presence::join(ctx, &channel, &serde_json::from_value(info).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn the_archive_is_read_page_by_page_newest_first() {
    let world = World::new().await;
    for n in 1..=3 {
        assert_eq!(send(world.publish(&world.ada, "chat:lobby", &json!({"data": n}))).await.0, 201);
    }
    let mut cursor = shared::channels::persist::Cursor::default();
    assert_eq!(shared::channels::persist::save(&world.app.state.ctx, &mut cursor).await.unwrap(), 3);
    let page = async |query: &str| send(world.get(&world.ada, &format!("/channels/chat:lobby/archive?{query}"))).await.1;
    let data = |page: &Value| page["items"].as_array().unwrap().iter().map(|item| item["data"].clone()).collect::<Vec<_>>();
    let first = page("limit=2").await;
    assert_eq!(data(&first), [3, 2]);
    assert!(first["items"][0]["epoch"].is_string() && first["items"][0]["info"]["user"] == user_id(&world.ada), "{first}");
    let rest = page(&format!("cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((data(&rest), &rest["next_cursor"]), (vec![json!(1)], &Value::Null));
    let problem = async |path: &str| send_for_problem(world.get(&world.admin, path)).await;
    assert_eq!(problem("/channels/system/archive").await, (409, "conflict".to_owned()));
    assert_eq!(problem("/channels/chat:lobby/archive?cursor=AAAA").await, (400, "invalid_cursor".to_owned()));
}
