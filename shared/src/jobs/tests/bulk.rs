//! Many at once: a verdict for each, in order.

use super::*;
use crate::{
    Code, Error,
    jobs::{bulk, unique::Accepted},
};

async fn prepare_all(fixture: &Fixture, bodies: &[Value]) -> bulk::Prepared {
    let items =
        bodies.iter().map(|body| serde_json::from_str(&body.to_string()).map_err(|error| Error::new(Code::InvalidJson, error.to_string())));
    bulk::prepare(&fixture.ctx, &fixture.user, items.collect(), &Origin::default()).await.unwrap()
}

fn mixed() -> Vec<Value> {
    vec![
        json!({"kind": "debug.echo", "payload": 0}),
        json!({"kind": "nobody.knows"}),
        json!({"kind": "debug.echo", "payload": 2}),
        json!({"kind": "debug.echo", "surprise": true}),
        json!({"kind": "debug.echo", "priority": 12}),
        json!({"kind": "debug.echo", "payload": 5}),
    ]
}

#[tokio::test]
async fn verdicts_come_in_order_and_good_jobs_are_written() {
    let fixture = Fixture::new().await;
    let verdicts = prepare_all(&fixture, &mixed()).await.write(&fixture.ctx, None).await;
    let codes = verdicts.iter().map(|verdict| verdict.as_ref().err().map(|error| error.code)).collect::<Vec<_>>();
    let expected = [None, Some(Code::UnknownKind), None, Some(Code::InvalidJson), Some(Code::ValidationFailed), None];
    assert_eq!(codes, expected);
    for index in [0, 2, 5] {
        let Accepted::New(job) = verdicts[index].as_ref().unwrap() else { panic!("no key is held") };
        let stored = crate::jobs::read::get(&fixture.ctx, &fixture.user, job.id).await.unwrap();
        assert_eq!(stored.payload.get(), index.to_string());
    }
    assert_eq!(fixture.count("jobs").await, 3);
}

#[tokio::test]
async fn all_or_nothing_names_every_bad_item_and_writes_nothing() {
    let fixture = Fixture::new().await;
    let error = prepare_all(&fixture, &mixed()).await.all_or_nothing(10).unwrap_err();
    let pointers = error.fields.iter().map(|field| field.pointer.as_str()).collect::<Vec<_>>();
    assert_eq!(pointers, ["/jobs/11/kind", "/jobs/13", "/jobs/14/priority"]);
    assert_eq!(fixture.count("jobs").await, 0);
}

#[tokio::test]
async fn a_bulk_in_a_transaction_is_gone_with_it() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let verdicts = prepare_all(&fixture, &mixed()).await.write(&fixture.ctx, Some(&mut *tx)).await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 3);
    tx.rollback().await.unwrap();
    assert_eq!(fixture.count("jobs").await, 0);
}

#[tokio::test]
async fn a_full_queue_takes_what_it_has_room_for() {
    let fixture = Fixture::new().await;
    let patch = serde_json::from_value(json!({"limits": {"max_depth": 2}})).unwrap();
    crate::jobs::queues::update(
        &fixture.ctx,
        &caller(Role::Operator),
        &"small".parse().unwrap(),
        &patch,
        &crate::accounts::Origin::default(),
        |_| Ok(()),
    )
    .await
    .unwrap();
    let bodies = vec![json!({"kind": "debug.echo", "queue": "small"}); 3];
    let verdicts = prepare_all(&fixture, &bodies).await.write(&fixture.ctx, None).await;
    assert_eq!(verdicts[2].as_ref().unwrap_err().code, Code::QueueFull);
    bulk::announce(&fixture.ctx, &verdicts).await;
    let refused = fixture.submit(json!({"kind": "debug.echo", "queue": "small"})).await.unwrap_err();
    assert_eq!(refused.code, Code::QueueFull);
    assert_eq!(fixture.count("jobs").await, 2);
}

#[tokio::test]
async fn all_or_nothing_for_want_of_room_may_be_tried_again() {
    let fixture = Fixture::new().await;
    let patch = serde_json::from_value(json!({"limits": {"max_depth": 1}})).unwrap();
    crate::jobs::queues::update(
        &fixture.ctx,
        &caller(Role::Operator),
        &"small".parse().unwrap(),
        &patch,
        &crate::accounts::Origin::default(),
        |_| Ok(()),
    )
    .await
    .unwrap();
    let mut bodies = vec![json!({"kind": "debug.echo", "queue": "small"}); 2];
    let error = prepare_all(&fixture, &bodies).await.all_or_nothing(0).unwrap_err();
    assert_eq!((error.code, error.retry_after.is_some()), (Code::QueueFull, true));
    // With another fault in it, no later try would pass.
    bodies.push(json!({"kind": "nobody.knows"}));
    let error = prepare_all(&fixture, &bodies).await.all_or_nothing(0).unwrap_err();
    assert_eq!((error.code, error.retry_after), (Code::ValidationFailed, None));
}
