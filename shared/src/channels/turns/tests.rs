//! Who comes when many wait.

use super::*;
use futures_util::{future::BoxFuture, poll};
use std::task::Poll;

fn user(name: &str) -> Reader {
    Reader::User(name.into())
}

async fn take(turns: &Turns, reader: &Reader) -> Turn {
    turns.take(Asker::now(reader)).await.expect("there is a turn")
}

/// All that a reader may have at the moment.
async fn take_all(turns: &Turns, reader: &Reader) -> Vec<Turn> {
    let mut taken = Vec::new();
    let long_ago = Instant::now();
    while let Ok(turn) = turns.take(Asker { reader, until: long_ago }).await {
        taken.push(turn);
    }
    taken
}

/// Somebody of the reader's who waits.
async fn waiting<'a>(turns: &'a Turns, reader: &'a Reader) -> BoxFuture<'a, Result<Turn>> {
    let mut turn: BoxFuture<'_, _> = Box::pin(turns.take(Asker::now(reader)));
    assert!(poll!(&mut turn).is_pending());
    turn
}

async fn has_come(turn: &mut BoxFuture<'_, Result<Turn>>) -> Option<Turn> {
    match poll!(turn) {
        Poll::Ready(turn) => Some(turn.unwrap()),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn whose_turn_does_not_come_in_time_is_sent_away_for_now() {
    let (turns, reader) = (Turns::new(4, "Too many."), user("1"));
    let mut taken = take_all(&turns, &reader).await;
    let refused = turns.take(Asker { reader: &reader, until: Instant::now() }).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after.is_some()), (Code::Overloaded, true));
    taken.pop();
    take(&turns, &reader).await;
}

#[tokio::test]
async fn whoever_has_taken_all_of_theirs_leaves_some_to_others() {
    for n_turns in [SMALL_AT_ONCE, LARGE_AT_ONCE] {
        let turns = Turns::new(n_turns, "");
        let (one, other) = (user("1"), user("2"));
        let of_one = take_all(&turns, &one).await;
        assert_eq!(of_one.len(), n_turns - n_turns / PARTS, "alone one has nearly all");
        let _waiting = waiting(&turns, &one).await;
        assert_eq!(take_all(&turns, &other).await.len(), n_turns / PARTS);
    }
    assert_eq!(take_all(&Turns::new(1, ""), &user("1")).await.len(), 1);
}

#[tokio::test]
async fn a_crowd_waits_behind_itself() {
    let turns = Turns::new(8, "");
    let (one, other) = (user("1"), user("2"));
    let (mut of_one, _of_other) = (take_all(&turns, &one).await, take_all(&turns, &other).await);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(waiting(&turns, &one).await);
    }
    let mut late = waiting(&turns, &other).await;
    // Above three quarters neither has another one.
    of_one.truncate(4);
    assert_eq!((turns.n_taken(), has_come(&mut late).await.is_some()), (6, false));
    of_one.pop();
    let first = has_come(&mut crowd[0]).await.expect("it has waited longest");
    of_one.pop();
    assert!(has_come(&mut late).await.is_some(), "the other one is next, before ninety-nine");
    drop((first, of_one));
    for waiting in &mut crowd[1..] {
        has_come(waiting).await.expect("each that is given back is given to the next");
    }
}

#[tokio::test]
async fn whoever_leaves_before_the_turn_comes_or_with_it_leaves_nothing_behind() {
    let (turns, reader) = (Turns::new(4, ""), user("1"));
    let taken = take_all(&turns, &reader).await;
    let (left, unaware) = (waiting(&turns, &reader).await, waiting(&turns, &reader).await);
    let mut last = waiting(&turns, &reader).await;
    drop(left);
    drop(taken);
    // The turn has come to who has not looked.
    drop(unaware);
    drop(has_come(&mut last).await.unwrap());
    let queue = turns.lock();
    assert_eq!((queue.n_taken, queue.readers.len(), queue.order.len()), (0, 0, 0));
}
