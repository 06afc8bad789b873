//! `mail.*` by a real worker and a mail server of our own that keeps what it is given.

use crate::world::World;
use serde_json::json;
use shared::{
    accounts::{
        Origin,
        input::{ForgottenPassword, PasswordReset},
        reset::{forgot_password, reset_password},
    },
    jobs::JobState,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Takes mail for everybody but `nobody@…`, whom it refuses for good, and `later@…`, whom it refuses once.
struct MailServer {
    url: String,
    mails: mpsc::Receiver<String>,
}

impl MailServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let (sender, mails) = mpsc::channel(16);
        let was_late = Arc::new(AtomicBool::new(false));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone(), Arc::clone(&was_late)));
            }
        });
        Self { url, mails }
    }

    /// What the worker is told of it.
    fn settings(&self) -> [(&str, &str); 3] {
        [
            ("SMTP_URL", &self.url),
            ("SMTP_FROM", "Millrace <no-reply@example.org>"),
            ("PASSWORD_RESET_URL", "https://app.example.org/reset?token="),
        ]
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(20), self.mails.recv()).await.expect("a mail comes").unwrap()
    }
}

async fn serve(stream: TcpStream, mails: mpsc::Sender<String>, was_late: Arc<AtomicBool>) {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test\r\n").await.unwrap();
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        let command = std::mem::take(&mut line).to_lowercase();
        let answer = if command.starts_with("rcpt to:<nobody@") {
            "550 no such user"
        } else if command.starts_with("rcpt to:<later@") && !was_late.swap(true, Ordering::Relaxed) {
            "451 come again"
        } else if command.starts_with("data") {
            stream.write_all(b"354 go on\r\n").await.unwrap();
            let mut mail = String::new();
            while !mail.ends_with("\r\n.\r\n") {
                assert!(stream.read_line(&mut mail).await.unwrap() > 0, "the mail ends");
            }
            mails.send(mail).await.unwrap();
            "250 kept"
        } else if command.starts_with("quit") {
            "221 bye"
        } else {
            "250 ok"
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_mail_is_sent_and_the_job_tells_what_the_server_said() {
    let mut server = MailServer::start().await;
    let world = World::with(&server.settings()).await;
    let _worker = world.worker(&[]);
    let mail =
        json!({"to": ["ada@example.org"], "bcc": ["eve@example.org"], "subject": "Grüße", "text": "Hello.\n.\n", "html": "<p>Hello."});
    let id = world.submit(json!({"kind": "mail.send", "payload": mail})).await;
    let job = world.until(id, JobState::Succeeded).await;
    assert_eq!(job.result.unwrap().get(), r#"{"answer":"kept"}"#);
    let sent = server.next().await;
    for part in
        ["From: Millrace <no-reply@example.org>", "To: ada@example.org", "Subject: =?utf-8?b?R3LDvMOfZQ==?=", "text/plain", "<p>Hello."]
    {
        assert!(sent.contains(part), "{part} is in {sent}");
    }
    assert!(sent.contains(&format!("Message-ID: <{id}@example.org>")), "{sent}");
    assert!(!sent.contains("eve@"), "who gets a blind copy is not told: {sent}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_dead_and_what_is_refused_for_now_is_sent_again() {
    let mut server = MailServer::start().await;
    let world = World::with(&server.settings()).await;
    let _worker = world.worker(&[]);
    let submit = |to: &str| json!({"kind": "mail.send", "payload": {"to": [to], "subject": "s", "text": "t"}, "retry": {"base_ms": 10, "max_ms": 20}});
    let refused = world.submit(submit("nobody@example.org")).await;
    assert_eq!(world.until(refused, JobState::Dead).await.error.unwrap().code, "mail_refused");
    let late = world.submit(submit("later@example.org")).await;
    world.until(late, JobState::Succeeded).await;
    assert_eq!(world.failed_attempts(late).await, ["failed"]);
    assert!(server.next().await.contains("To: later@example.org"));
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_with_the_token_of_the_mail() {
    let mut server = MailServer::start().await;
    let world = World::with(&server.settings()).await;
    let _worker = world.worker(&[]);
    let accounts = world.accounts().await;
    let register = json!({"email": "Ada@example.org", "password": "correct horse battery"});
    shared::accounts::register::register(&accounts, &serde_json::from_value(register).unwrap(), &Origin::default()).await.unwrap();

    let forgotten = |email: &str| serde_json::from_value::<ForgottenPassword>(json!({"email": email})).unwrap();
    // Nobody's address makes a job as well, and no mail.
    for email in ["nobody.here@example.org", "ada@example.org", "ADA@example.org"] {
        forgot_password(&accounts, &forgotten(email), &Origin::default()).await.unwrap();
    }
    let mail = server.next().await;
    assert!(mail.contains("To: ada@example.org"), "{mail}");
    let mail = mail.replace("=\r\n", "").replace("=3D", "=");
    let (_, rest) = mail.split_once("https://app.example.org/reset?token=").expect("the link is there");
    let token = rest.split_whitespace().next().unwrap();

    let jobs: Vec<(serde_json::Value, String)> =
        sqlx::query_as("SELECT payload, state FROM jobs_all WHERE kind = 'mail.password_reset'").fetch_all(&world.ctx.pg).await.unwrap();
    assert_eq!(jobs.len(), 2, "one for each address: {jobs:?}");
    assert!(!format!("{jobs:?}").contains(token), "the token stands nowhere but in the mail");

    let reset = json!({"token": token, "new_password": "another horse battery"});
    let reset: PasswordReset = serde_json::from_value(reset).unwrap();
    reset_password(&accounts, &reset, &Origin::default()).await.unwrap();
    assert!(reset_password(&accounts, &reset, &Origin::default()).await.is_err(), "it is good once");
}

#[tokio::test]
async fn nobody_but_the_platform_asks_for_a_reset_and_nobody_sends_without_a_server() {
    let world = World::new().await;
    let reset = world.refused(json!({"kind": "mail.password_reset", "payload": {"email": "ada@example.org"}})).await;
    assert_eq!(reset.code.as_str(), "forbidden");
    let mail = world.refused(json!({"kind": "mail.send", "payload": {"to": ["ada@example.org"], "subject": "s", "text": "t"}})).await;
    assert_eq!(mail.fields[0].code, "not_configured");
}

#[tokio::test]
async fn what_is_no_mail_is_refused_with_every_reason() {
    let world = World::with(&[("SMTP_URL", "smtp://127.0.0.1:1"), ("SMTP_FROM", "a@example.org")]).await;
    let payload = json!({"to": ["no address"], "cc": [], "reply_to": "x", "subject": "two\r\nBcc: eve@example.org"});
    let refused = world.refused(json!({"kind": "mail.send", "payload": payload})).await;
    let pointers: Vec<_> = refused.fields.iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/payload/to/0", "/payload/reply_to", "/payload/subject", "/payload/text"]);
}
