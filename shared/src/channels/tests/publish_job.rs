//! `channel.publish`: what may be submitted, and what its runs publish.

use super::*;
use crate::{
    Caller, Code, Role,
    caller::Credential,
    channels::publish_job::{self, PublishLater, Report},
    ids::{ApiKeyId, JobId, UserId},
};

fn user() -> Caller {
    Caller::new(UserId::new(), Role::User, Role::User.scopes(), Credential::ApiKey(ApiKeyId::new()))
}

async fn refusal(channels: &Channels, caller: &Caller, payload: &str) -> Option<(Code, Option<String>)> {
    let verdict = publish_job::check(&channels.ctx, caller, Some(&json(payload))).await;
    verdict.err().map(|error| (error.code, error.fields.first().map(|field| field.pointer.clone())))
}

async fn run(channels: &Channels, job_id: JobId, payload: &str) -> Report {
    let payload: PublishLater = serde_json::from_str(payload).expect("a test's payload is one");
    payload.run(&channels.ctx, job_id, UserId::new()).await.expect("Redis answers")
}

#[tokio::test]
async fn who_may_not_publish_there_may_not_submit_it() {
    let channels = Channels::open().await;
    let refused = async |payload: &str| refusal(&channels, &user(), payload).await;
    assert_eq!(refused(r#"{"channel":"chat:a","data":1}"#).await, None);
    assert_eq!(refused(r#"{"channels":["chat:a","public:b"],"data":1}"#).await, Some((Code::Forbidden, None)));
    let invalid = |pointer: &str| Some((Code::ValidationFailed, Some(pointer.to_owned())));
    assert_eq!(refused(r#"{"channels":["chat:a","nowhere:b"],"data":1}"#).await, invalid("/payload/channels/1"));
    let large = format!(r#"{{"channel":"chat:a","data":"{}"}}"#, "x".repeat(64 << 10));
    assert_eq!(refused(&large).await, invalid("/payload/data"));
    for payload in [r#"{"data":1}"#, r#"{"channel":"chat:a","channels":["chat:b"],"data":1}"#, r#"{"channels":[],"data":1}"#] {
        assert_eq!(refused(payload).await, invalid("/payload/channels"), "{payload}");
    }
    assert_eq!(refused(r#"{"channel":"chat:a","data":1,"loud":true}"#).await, invalid("/payload/loud"));
    let reader = Caller { scopes: [crate::Scope::JobsWrite, crate::Scope::ChannelsRead].into_iter().collect(), ..user() };
    assert_eq!(refusal(&channels, &reader, r#"{"channel":"chat:a","data":1}"#).await, Some((Code::InsufficientScope, None)));
}

#[tokio::test]
async fn a_second_run_publishes_nothing_twice() {
    let channels = Channels::open().await;
    let (a, b) = (channels.channel("kept:a"), channels.channel("kept:b"));
    let payload = r#"{"channels":["kept:a","kept:b"],"data":{"n":1},"tags":{"t":"1"}}"#;
    let job_id = JobId::new();
    // As if a first run had ended between the two.
    run(&channels, job_id, r#"{"channel":"kept:a","data":{"n":1},"tags":{"t":"1"}}"#).await;
    for _ in 0..2 {
        assert_eq!(run(&channels, job_id, payload).await.published, 2);
    }
    let published = async |channel: &Channel| {
        history(&channels.ctx, &Reader::Process, channel, &Filter::newest(10)).await.expect("Redis answers").publications
    };
    assert_eq!((published(&a).await.len(), published(&b).await.len()), (1, 1));
    run(&channels, JobId::new(), payload).await;
    assert_eq!(published(&a).await.len(), 2, "another job is another publication");
}

#[tokio::test]
async fn a_channel_that_is_gone_does_not_keep_it_from_the_others() {
    let channels = Channels::open().await;
    let report = run(&channels, JobId::new(), r#"{"channels":["kept:a","gone:b"],"data":1}"#).await;
    assert_eq!(report.published, 1);
    assert_eq!((report.refused[0].channel.as_str(), report.refused[0].code), ("gone:b", "not_found"));
}
