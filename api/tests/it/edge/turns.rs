//! Who waits for a turn is not in flight, and is again when the turn comes.

use crate::support::TestApp;
use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::ServiceResponse,
    http::StatusCode,
    test::{TestRequest, call_service, init_service},
    web::{Data, get},
};
use api::edge::{Edge, RequestScope, Traffic};
use futures_util::FutureExt;
use shared::{ids::UserId, turns::Turns};
use std::{pin::pin, time::Duration};
use tokio::sync::Semaphore;

async fn take_a_turn(request: HttpRequest, turns: Data<Turns>, user_id: Data<UserId>) -> HttpResponse {
    let turn = turns.within(**user_id, Duration::from_secs(60), &*RequestScope::from_request(&request)).await;
    HttpResponse::build(turn.map_or(StatusCode::SERVICE_UNAVAILABLE, |_| StatusCode::OK)).finish()
}

/// At work for as long as the test says.
async fn work(end: Data<Semaphore>) -> HttpResponse {
    let _end = end.acquire().await;
    HttpResponse::Ok().finish()
}

fn status<B>(response: ServiceResponse<B>) -> u16 {
    response.status().as_u16()
}

#[actix_web::test]
async fn who_waits_for_a_turn_holds_no_place_in_flight_until_it_comes() {
    let app = TestApp::start_with(&[("API_CONCURRENCY_LIMIT", "1")]).await;
    let (state, user_id) = (Data::new(app.state.clone()), UserId::new());
    let (turns, end) = (Data::new(Turns::new(1, "busy")), Data::new(Semaphore::new(1)));
    let routes = App::new().app_data(state.clone()).app_data(turns.clone()).app_data(end.clone()).app_data(Data::new(user_id));
    let routes = routes.route("/turn", get().to(take_a_turn)).route("/work", get().to(work));
    let service = init_service(routes.wrap(Edge::new(state, Traffic::start("test")))).await;
    let ask = |path: &str| call_service(&service, TestRequest::get().uri(path).to_request());

    let turn = turns.at_once(user_id).unwrap();
    let mut waiting = pin!(ask("/turn"));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(status(ask("/work").await), 200, "the one place is free");
    drop(turn);
    assert_eq!(status(waiting.await), 200);

    let turn = turns.at_once(user_id).unwrap();
    let mut waiting = pin!(ask("/turn"));
    assert!((&mut waiting).now_or_never().is_none());
    let permit = end.acquire().await.unwrap();
    let mut at_work = pin!(ask("/work"));
    assert!((&mut at_work).now_or_never().is_none());
    drop(turn);
    assert_eq!(status(waiting.await), 503, "the one place is taken");
    drop(permit);
    assert_eq!(status(at_work.await), 200);
}
