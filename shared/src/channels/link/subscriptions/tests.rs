//! That a channel counts as subscribed when it is, and not before.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn name(n: usize) -> (String, ChannelName) {
    (format!("p:{n}"), ChannelName::new(&format!("c:{n}")).unwrap())
}

fn want(subscriptions: &mut Subscriptions, names: impl IntoIterator<Item = usize>) -> oneshot::Receiver<()> {
    let (done, confirmed) = oneshot::channel();
    subscriptions.want(names.into_iter().map(name), done);
    confirmed
}

#[test]
fn whoever_asks_hears_once_all_are_confirmed() {
    let mut subscriptions = Subscriptions::default();
    let mut both = want(&mut subscriptions, [1, 2, 1]);
    let mut one = want(&mut subscriptions, [2]);
    let (verb, names) = subscriptions.next_batch().unwrap();
    assert_eq!((verb, names.len()), (Verb::Subscribe, 2));
    subscriptions.confirm(b"p:2");
    assert!(one.try_recv().is_ok() && both.try_recv().is_err());
    subscriptions.confirm(b"p:1");
    assert!(both.try_recv().is_ok() && subscriptions.is_settled());
    assert!(want(&mut subscriptions, [1, 2]).try_recv().is_ok());
}

#[test]
fn the_answer_to_a_subscription_that_has_ended_confirms_nothing() {
    let mut subscriptions = Subscriptions::default();
    let mut first = want(&mut subscriptions, [1]);
    subscriptions.next_batch().unwrap();
    subscriptions.unwant([name(1).0]);
    subscriptions.next_batch().unwrap();
    let mut second = want(&mut subscriptions, [1]);
    subscriptions.next_batch().unwrap();
    subscriptions.confirm(b"p:1");
    assert!(second.try_recv().is_err());
    subscriptions.confirm(b"p:1");
    assert!(second.try_recv().is_ok());
    assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed));
}

#[test]
fn batches_are_bounded_and_so_is_what_is_on_the_way() {
    let mut subscriptions = Subscriptions::default();
    let _confirmed = want(&mut subscriptions, 0..5_000);
    let mut sent = Vec::new();
    while let Some((_, names)) = subscriptions.next_batch() {
        assert!(names.len() <= BATCH_MAX);
        sent.extend(names);
    }
    assert_eq!(sent.len(), UNANSWERED_MAX);
    sent.iter().for_each(|name| subscriptions.confirm(name));
    assert!(subscriptions.next_batch().is_some());
}

#[test]
fn a_new_connection_is_told_everything_again() {
    let mut subscriptions = Subscriptions::default();
    let mut waiting = want(&mut subscriptions, [1, 2]);
    subscriptions.next_batch();
    subscriptions.confirm(b"p:1");
    subscriptions.unwant([name(7).0]);
    subscriptions.start_over();
    assert!(!subscriptions.is_settled());
    let (_, names) = subscriptions.next_batch().unwrap();
    assert_eq!(names.len(), 2);
    names.iter().for_each(|name| subscriptions.confirm(name));
    assert!(subscriptions.is_settled() && waiting.try_recv().is_ok());
}

proptest! {
    /// A server that carries out what it is sent ends up with what is wanted, and nobody is told before it is so.
    #[test]
    fn the_server_ends_with_what_is_wanted(steps in prop::collection::vec((0usize..4, 0usize..5), 1..60)) {
        let mut subscriptions = Subscriptions::default();
        let (mut server, mut wanted) = (HashSet::<Name>::new(), HashSet::<usize>::new());
        let mut answers = VecDeque::<Name>::new();
        let mut waiting = Vec::new();
        let mut steps: Vec<_> = steps.into_iter().map(Some).collect();
        steps.extend((0..400).map(|_| None));
        for step in steps {
            match step {
                Some((0, n)) => {
                    wanted.insert(n);
                    waiting.push((n, want(&mut subscriptions, [n])));
                }
                Some((1, n)) => {
                    wanted.remove(&n);
                    waiting.retain(|(waits, _)| *waits != n);
                    subscriptions.unwant([name(n).0]);
                }
                Some((2, _)) => {
                    server.clear();
                    answers.clear();
                    subscriptions.start_over();
                }
                Some(_) | None => {
                    if let Some((verb, names)) = subscriptions.next_batch() {
                        for name in names {
                            match verb {
                                Verb::Subscribe => {
                                    server.insert(Arc::clone(&name));
                                    answers.push_back(name);
                                }
                                Verb::Unsubscribe => drop(server.remove(&name)),
                            }
                        }
                    } else if let Some(answer) = answers.pop_front() {
                        subscriptions.confirm(&answer);
                    }
                }
            }
            waiting.retain_mut(|(n, confirmed)| {
                let is_told = confirmed.try_recv().is_ok();
                assert!(!is_told || server.contains(name(*n).0.as_bytes()));
                !is_told
            });
        }
        prop_assert!(subscriptions.is_settled() && waiting.is_empty());
        let expected: HashSet<Name> = wanted.iter().map(|n| name(*n).0.into_bytes().into()).collect();
        prop_assert_eq!(server, expected);
    }
}
