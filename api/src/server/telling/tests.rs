//! Clients that take nothing, little, or slowly.

use super::*;
use rstest::rstest;
use std::future::poll_fn;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(200);
const MUCH_BYTES: usize = LITTLE_BYTES + 1;

fn telling(within: Duration, hurry: Duration, unsent: &Arc<Unsent>) -> Telling {
    let mut telling = Telling::new(within, Arc::clone(unsent));
    (telling.hurry, telling.look_every) = (hurry, Duration::from_millis(5));
    telling
}

/// How long a client is borne with that takes a byte, `every` so often.
async fn borne_with(mut telling: Telling, n_bytes: usize, every: Duration) -> Duration {
    let begun = Instant::now();
    loop {
        let waits = poll_fn(|cx| telling.wrote(n_bytes, Poll::Pending, cx));
        if let Ok(outcome) = timeout(every, waits).await {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
            return begun.elapsed();
        }
        poll_fn(|cx| telling.wrote(n_bytes, Poll::Ready(Ok(1)), cx)).await.unwrap();
    }
}

#[rstest]
#[case::it_has_its_time(MUCH_BYTES, SHORT, Duration::ZERO, usize::MAX)]
#[case::unless_the_process_keeps_too_much(MUCH_BYTES, LONG, SHORT, MUCH_BYTES - 1)]
#[case::which_is_not_for_who_has_little_waiting(LITTLE_BYTES, SHORT, Duration::ZERO, 0)]
#[actix_web::test]
async fn a_client_that_takes_nothing_is_left(
    #[case] n_bytes: usize,
    #[case] within: Duration,
    #[case] hurry: Duration,
    #[case] max: usize,
) {
    let took = borne_with(telling(within, hurry, &Unsent::up_to(max)), n_bytes, LONG).await;
    assert!(took >= SHORT, "{took:?}");
}

#[actix_web::test]
async fn a_byte_now_and_then_buys_no_time_while_the_process_keeps_too_much() {
    let took = borne_with(telling(LONG, SHORT, &Unsent::up_to(0)), MUCH_BYTES, Duration::from_millis(10)).await;
    assert!(took >= SHORT, "{took:?}");
}

#[actix_web::test]
async fn what_is_taken_or_given_up_is_not_counted() {
    let unsent = Unsent::up_to(0);
    let bytes = || unsent.bytes.load(Ordering::Relaxed);
    let mut tellings = [(); 2].map(|()| telling(LONG, LONG, &unsent));
    poll_fn(|cx| {
        for telling in &mut tellings {
            assert!(telling.wrote(1_000, Poll::Pending, cx).is_pending());
            assert!(telling.wrote(900, Poll::Pending, cx).is_pending() && telling.poll_taken(cx).is_pending());
        }
        Poll::Ready(())
    })
    .await;
    assert_eq!(bytes(), 1_800);
    poll_fn(|cx| tellings[0].wrote(900, Poll::Ready(Ok(800)), cx)).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(tellings[0].poll_taken(cx))).await.is_pending(), "100 are left");
    poll_fn(|cx| tellings[0].wrote(100, Poll::Ready(Ok(100)), cx)).await.unwrap();
    poll_fn(|cx| tellings[0].poll_taken(cx)).await;
    assert_eq!(bytes(), 900);
    drop(tellings);
    assert_eq!(bytes(), 0);
}
