//! Tokens: those of another backend, subscription tokens, fresh ones in the place of old ones, and revoked ones.

use super::client::{Received, Socket};
use crate::{
    auth::{credentials, register, register_admin, token},
    support::{TestApp, send},
};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const SECRET: &str = "a secret that is longer than 32 bytes";

pub(super) fn sign(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn in_seconds(seconds: i64) -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp() + seconds
}

async fn app_with_backend() -> TestApp {
    TestApp::start_with(&[("CHANNEL_TOKEN_HMAC_SECRET", SECRET), ("WS_EXPIRY_GRACE_S", "0")]).await
}

async fn connected(app: &TestApp, claims: &Value) -> (Socket, Value) {
    let mut socket = Socket::open(app).await;
    let result = socket.ask("connect", json!({"token": sign(claims)})).await.unwrap();
    (socket, result)
}

#[tokio::test]
async fn a_token_of_another_backend_connects_and_names_its_channels() {
    let app = app_with_backend().await;
    let claims = json!({"sub": "42", "exp": in_seconds(60), "info": {"name": "Ada"}, "channels": ["chat:lobby"]});
    let (mut socket, result) = connected(&app, &claims).await;
    assert_eq!(result["expires"], true);
    assert!((50..=60).contains(&result["ttl"].as_u64().unwrap()), "{result}");
    assert_eq!(result["subs"]["chat:lobby"]["recoverable"], true);
    assert_eq!(socket.ask("subscribe", json!({"channel": "chat:lobby"})).await.unwrap_err()["code"], 105);
    socket.ask("publish", json!({"channel": "chat:lobby", "data": 1})).await.unwrap();
    let push = socket.next_push().await;
    assert_eq!(push["pub"]["info"]["user"], "42");
    assert_eq!(push["pub"]["info"]["conn_info"], json!({"name": "Ada"}));
}

#[tokio::test]
async fn a_token_of_more_channels_than_a_client_may_have_ends_the_connection() {
    let app = TestApp::start_with(&[("CHANNEL_TOKEN_HMAC_SECRET", SECRET), ("WS_CHANNELS_PER_CLIENT", "2")]).await;
    let mut socket = Socket::open(&app).await;
    let channels = ["chat:1", "chat:2", "chat:3"];
    socket.tell("connect", json!({"token": sign(&json!({"sub": "42", "channels": channels}))})).await;
    assert_eq!(socket.closed().await, 3505);
    connected(&app, &json!({"sub": "42", "channels": channels[..2]})).await;
}

#[tokio::test]
async fn a_token_that_is_for_one_subscription_or_would_break_those_who_are_shown_it_connects_nobody() {
    let app = app_with_backend().await;
    let mut deep = json!(1);
    for _ in 0..120 {
        deep = json!([deep]);
    }
    let unfit = [
        json!({"sub": "42", "info": deep}),
        json!({"sub": "42", "subs": {"chat:1": {"info": deep}}}),
        // A token for one subscription.
        json!({"sub": "42", "channel": "chat:1"}),
    ];
    for claims in unfit {
        let mut socket = Socket::open(&app).await;
        socket.tell("connect", json!({"token": sign(&claims)})).await;
        assert_eq!(socket.closed().await, 3500);
    }
}

#[tokio::test]
async fn server_side_subscriptions_are_recovered_with_connect() {
    let app = app_with_backend().await;
    let claims = json!({"sub": "42", "channels": ["chat:lobby"]});
    let (mut socket, result) = connected(&app, &claims).await;
    let epoch = result["subs"]["chat:lobby"]["epoch"].clone();
    for n in 1..=3 {
        socket.ask("publish", json!({"channel": "chat:lobby", "data": n})).await.unwrap();
    }
    let mut again = Socket::open(&app).await;
    let subs = json!({"chat:lobby": {"recover": true, "offset": 1, "epoch": epoch}});
    let result = again.ask("connect", json!({"token": sign(&claims), "subs": subs})).await.unwrap();
    let lobby = &result["subs"]["chat:lobby"];
    assert_eq!((&lobby["recovered"], &lobby["was_recovering"], &lobby["offset"]), (&json!(true), &json!(true), &json!(1)));
    assert_eq!(lobby["publications"].as_array().unwrap().len(), 2);
    socket.ask("publish", json!({"channel": "chat:lobby", "data": 4})).await.unwrap();
    assert_eq!(again.next_push().await["pub"]["offset"], 4);
}

#[tokio::test]
async fn what_comes_with_connect_is_so_much_and_who_missed_more_is_told() {
    let app = app_with_backend().await;
    let channels: Vec<String> = (0..6).map(|n| format!("chat:{n}")).collect();
    let claims = json!({"sub": "42", "channels": channels});
    let (mut socket, result) = connected(&app, &claims).await;
    let data = "x".repeat(60_000);
    for channel in &channels {
        for _ in 0..16 {
            socket.ask("publish", json!({"channel": channel, "data": data})).await.unwrap();
        }
    }
    let since = |channel: &String| json!({"recover": true, "offset": 0, "epoch": result["subs"][channel]["epoch"]});
    let subs: serde_json::Map<String, Value> = channels.iter().map(|channel| (channel.clone(), since(channel))).collect();
    let mut again = Socket::open(&app).await;
    let result = again.ask("connect", json!({"token": sign(&claims), "subs": subs})).await.unwrap();
    let told: Vec<(bool, bool)> = channels
        .iter()
        .map(|channel| (result["subs"][channel]["was_recovering"] == true, result["subs"][channel]["recovered"] == true))
        .collect();
    assert_eq!(told, [[(true, true); 4].as_slice(), &[(true, false); 2]].concat(), "about 1 MB of each, 4 MiB of all");
    socket.ask("publish", json!({"channel": "chat:5", "data": 1})).await.unwrap();
    assert_eq!(again.next_push().await["pub"]["offset"], 17, "all of them go on");
}

#[tokio::test]
async fn a_user_of_ours_hears_the_personal_channel_unasked() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let mut socket = Socket::open(&app).await;
    let result = socket.ask("connect", json!({"token": token(&session)})).await.unwrap();
    let ours = format!("user:#{}", session["user"]["id"].as_str().unwrap());
    assert!(result["subs"].get(&ours).is_some(), "{result}");
    assert_eq!(result["expires"], true);
}

#[tokio::test]
async fn a_subscription_token_opens_its_channel_to_its_user_alone() {
    let app = app_with_backend().await;
    let (mut socket, _) = connected(&app, &json!({"sub": "42"})).await;
    let token = |sub: &str, channel: &str, exp: i64| sign(&json!({"sub": sub, "channel": channel, "exp": exp, "info": {"seat": 7}}));
    let mut subscribe = async |token: String| socket.ask("subscribe", json!({"channel": "$chat:1", "token": token})).await;
    assert_eq!(subscribe(String::new()).await.unwrap_err()["code"], 103);
    assert_eq!(subscribe(token("7", "$chat:1", in_seconds(60))).await.unwrap_err()["code"], 103);
    assert_eq!(subscribe(token("42", "$chat:2", in_seconds(60))).await.unwrap_err()["code"], 103);
    assert_eq!(subscribe("forged".to_owned()).await.unwrap_err()["code"], 103);
    assert_eq!(subscribe(token("42", "$chat:1", in_seconds(-1))).await.unwrap_err()["code"], 109);
    let result = subscribe(token("42", "$chat:1", in_seconds(60))).await.unwrap();
    assert_eq!(result["expires"], true);
    socket.ask("publish", json!({"channel": "$chat:1", "data": 1})).await.unwrap();
    assert_eq!(socket.next_push().await["pub"]["info"]["chan_info"], json!({"seat": 7}));
}

#[tokio::test]
async fn fresh_tokens_keep_a_connection_and_a_subscription_that_would_have_ended() {
    let app = app_with_backend().await;
    let (mut kept, result) = connected(&app, &json!({"sub": "42", "exp": in_seconds(2)})).await;
    let (mut left, _) = connected(&app, &json!({"sub": "42", "exp": in_seconds(2)})).await;
    let sub_token = |exp| sign(&json!({"sub": "42", "channel": "$chat:1", "exp": exp}));
    kept.ask("subscribe", json!({"channel": "$chat:1", "token": sub_token(in_seconds(2))})).await.unwrap();
    let refreshed = kept.ask("refresh", json!({"token": sign(&json!({"sub": "42", "exp": in_seconds(60)}))})).await.unwrap();
    assert_eq!((&refreshed["client"], &refreshed["expires"]), (&result["client"], &json!(true)));
    // Without the channel, as some clients send it.
    let refreshed = kept.ask("sub_refresh", json!({"token": sub_token(in_seconds(60))})).await.unwrap();
    assert_eq!(refreshed["expires"], true);
    assert_eq!(left.closed().await, 3005);
    kept.ask("publish", json!({"channel": "$chat:1", "data": 1})).await.unwrap();
    assert_eq!(kept.next_push().await["pub"]["data"], 1);
}

#[tokio::test]
async fn a_subscription_that_is_not_refreshed_ends_with_a_push() {
    let app = app_with_backend().await;
    let (mut socket, _) = connected(&app, &json!({"sub": "42"})).await;
    let token = sign(&json!({"sub": "42", "channel": "$chat:1", "exp": in_seconds(2)}));
    socket.ask("subscribe", json!({"channel": "$chat:1", "token": token})).await.unwrap();
    assert_eq!(socket.next_push().await, json!({"channel": "$chat:1", "unsubscribe": {"code": 2501, "reason": "expired"}}));
}

#[tokio::test]
async fn a_connection_never_changes_hands() {
    let app = app_with_backend().await;
    let (mut socket, _) = connected(&app, &json!({"sub": "42", "exp": in_seconds(60)})).await;
    socket.tell("refresh", json!({"token": sign(&json!({"sub": "7", "exp": in_seconds(60)}))})).await;
    assert_eq!(socket.closed().await, 3500);
}

#[tokio::test]
async fn sockets_of_a_session_that_ended_are_closed_on_every_process() {
    let app = TestApp::start().await;
    let twin = app.twin(&[]).await;
    let (first, second) = (register(&app, "ada@example.org").await, register(&app, "bob@example.org").await);
    let mut ours = Socket::signed_in(&app, token(&first)).await;
    let mut theirs = Socket::signed_in(&twin, token(&first)).await;
    let mut neighbour = Socket::signed_in(&app, token(&second)).await;
    let logout = app.post("/api/v1/auth/logout").bearer_auth(token(&first)).json(&json!({"refresh_token": first["refresh_token"]}));
    assert_eq!(send(logout).await.0, 204);
    assert_eq!(ours.closed().await, 3503);
    twin.state.accounts.poll_revocations().await.unwrap();
    assert_eq!(theirs.closed().await, 3503);
    neighbour.ask("rpc", json!({"method": "time"})).await.unwrap();
}

#[tokio::test]
async fn sockets_of_a_user_who_is_disabled_and_of_a_revoked_key_are_closed() {
    let app = TestApp::start().await;
    let (admin, ada) = (register_admin(&app).await, register(&app, "ada@example.org").await);
    let (_, key) =
        send(app.post("/api/v1/api-keys").bearer_auth(token(&admin)).json(&json!({"name": "k", "scopes": ["channels:read"]}))).await;
    let mut by_key = Socket::signed_in(&app, key["key"].as_str().unwrap()).await;
    let mut by_session = Socket::signed_in(&app, token(&ada)).await;
    let revoke = app.request(reqwest::Method::DELETE, &format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap()));
    assert!(send(revoke.bearer_auth(token(&admin))).await.0.is_success());
    assert_eq!(by_key.closed().await, 3503);
    let path = format!("/api/v1/users/{}", ada["user"]["id"].as_str().unwrap());
    let disable = app.request(reqwest::Method::PATCH, &path).bearer_auth(token(&admin)).json(&json!({"disabled": true}));
    assert_eq!(send(disable).await.0, 200);
    assert_eq!(by_session.closed().await, 3503);
}

#[tokio::test]
async fn whose_session_goes_on_with_new_tokens_is_asked_for_one() {
    let app = TestApp::start().await;
    let (admin, ada) = (register_admin(&app).await, register(&app, "ada@example.org").await);
    let elsewhere = send(app.post("/api/v1/auth/login").json(&credentials("ada@example.org"))).await.1;
    let (mut here, mut there) = (Socket::signed_in(&app, token(&ada)).await, Socket::signed_in(&app, token(&elsewhere)).await);
    let change = json!({"current_password": credentials("")["password"], "new_password": "another long password"});
    let (status, renewed) = send(app.post("/api/v1/auth/password").bearer_auth(token(&ada)).json(&change)).await;
    assert_eq!(status, 200, "{renewed}");
    assert_eq!((here.closed().await, there.closed().await), (3005, 3503));
    let mut here = Socket::signed_in(&app, token(&renewed)).await;
    let path = format!("/api/v1/users/{}", ada["user"]["id"].as_str().unwrap());
    let promote = app.request(reqwest::Method::PATCH, &path).bearer_auth(token(&admin)).json(&json!({"role": "operator"}));
    assert_eq!(send(promote).await.0, 200);
    assert_eq!(here.closed().await, 3005);
}

/// What a command with a token is answered with: the code of an error, or of the close.
async fn refusal(socket: &mut Socket, method: &str, token: &str) -> u64 {
    socket.tell(method, json!({"token": token})).await;
    match socket.receive().await {
        Received::Text(text) => serde_json::from_str::<Value>(&text).unwrap()["error"]["code"].as_u64().unwrap(),
        Received::Close(code, _) => code.into(),
        other @ (Received::Pong(_) | Received::End) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_sends_keys_that_there_are_not_over_sockets_waits_as_over_http() {
    let limited = [("RATE_LIMIT_LOGIN", "3/h"), ("TRUSTED_PROXIES", "127.0.0.0/8"), ("WS_ANONYMOUS", "on")];
    let app = TestApp::start_with(&limited).await;
    let admin = register_admin(&app).await;
    let create = app.post("/api/v1/api-keys").bearer_auth(token(&admin)).json(&json!({"name": "k", "scopes": ["channels:read"]}));
    let key = send(create).await.1["key"].as_str().unwrap().to_owned();
    let guess = format!("{}AAAA", &key[..key.len() - 4]);
    let open = async |address: &str| {
        let (head, socket) = Socket::handshake(app.address, "/connection/websocket", &format!("x-forwarded-for: {address}\r\n")).await;
        assert_eq!(head.status, 101);
        socket
    };
    let over_http = async |address: &str| {
        let request = app.get("/api/v1/auth/me").header("x-api-key", &guess).header("x-forwarded-for", address);
        u64::from(send(request).await.0.as_u16())
    };
    for _ in 0..4 {
        assert_eq!(refusal(&mut open("192.0.2.1").await, "connect", &guess).await, 3500);
    }
    // A refusal holds for a second; one more guess then, and it holds again.
    let is_held = async {
        while refusal(&mut open("192.0.2.1").await, "connect", &guess).await != 111 {}
        while over_http("192.0.2.1").await != 429 {}
        loop {
            let mut socket = open("192.0.2.1").await;
            socket.ask("connect", json!({})).await.unwrap();
            if refusal(&mut socket, "refresh", &guess).await == 111 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(60), is_held).await.expect("guesses are counted wherever they come");
    assert_eq!(over_http("192.0.2.2").await, 401, "others have guesses of their own");
    open("192.0.2.3").await.ask("connect", json!({"token": key})).await.unwrap();
}

#[tokio::test]
async fn a_user_has_so_many_connections_over_all_processes_and_no_more() {
    let limit = [("CHANNEL_TOKEN_HMAC_SECRET", SECRET), ("WS_MAX_CONNECTIONS_PER_USER", "2")];
    let app = TestApp::start_with(&limit).await;
    let twin = app.twin(&limit).await;
    let claims = json!({"sub": "42"});
    let (first, _second) = (connected(&app, &claims).await.0, connected(&twin, &claims).await.0);
    let mut third = Socket::open(&app).await;
    third.tell("connect", json!({"token": sign(&claims)})).await;
    assert_eq!(third.closed().await, 3504);
    connected(&app, &json!({"sub": "7"})).await;
    drop(first);
    loop {
        let mut again = Socket::open(&app).await;
        let id = again.tell("connect", json!({"token": sign(&claims)})).await;
        if let super::client::Received::Text(text) = again.receive().await {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], id);
            break;
        }
    }
}
