//! The scripts as a state machine: random calls, fresh and stale, against a model of one queue. After every call the answer
//! and everything that Redis holds must be what the model says, and the invariants of the layout must hold by themselves.
//!
//! Redis' clock cannot be set, so that time is told by scores: a lease or a delay is either an hour long or made to be over.

mod apply;
mod calls;
mod layout;
mod model;

use super::*;
use calls::Call;
use layout::Layout;
use model::Model;
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

/// Jobs of one case: few, so that calls meet each other's traces.
const N_JOBS: usize = 6;
const N_WORKERS: usize = 3;
/// Calls of one case, at most.
const N_CALLS: usize = 40;

#[test]
fn any_order_of_calls_leaves_redis_as_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stores = runtime.block_on(TestStores::create());
    let ctx = runtime.block_on(async { stores.context(&[]) });
    let config = Config { failure_persistence: None, ..Config::default() };
    let calls = prop::collection::vec(calls::any_call(), 1..N_CALLS);
    let result = TestRunner::new(config).run(&calls, |calls| runtime.block_on(play(&ctx, calls)));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Which invariants of the layout a queue breaks.
pub(super) async fn broken(keys: &QueueKeys, connection: &Connection) -> Vec<String> {
    layout::broken(keys, connection).await
}

/// Plays one case on a queue of its own.
async fn play(ctx: &Context, calls: Vec<Call>) -> Result<(), TestCaseError> {
    let queue = QueueName::new(&format!("q{}", uuid::Uuid::new_v4().simple())).unwrap();
    let mut real = apply::Real::new(ctx, &queue);
    let mut model = Model::default();
    for call in calls {
        // Those of before the call: a step ends leases that are older than those it makes.
        let tokens = model.tokens.clone();
        let expected = model.apply(&call);
        let answer = real.apply(&call, &tokens).await;
        prop_assert_eq!(&answer, &expected, "the answer to {:?}", call);
        let (layout, broken) = Layout::read(&real).await;
        prop_assert_eq!(broken, Vec::<String>::new(), "after {:?}", call);
        prop_assert_eq!(&layout, &model.layout(), "after {:?}", call);
    }
    Ok(())
}
