//! Connections that are read as the server reads them.

use super::{
    super::telling::Unsent,
    requests::Begun,
    tap::{Body, SIP_BYTES},
    *,
};
use actix_web::{dev::ServiceResponse, error::ErrorNotFound, rt::net::TcpListener};
use bytes::BytesMut;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::io::poll_read_buf;

const A_WHILE: Duration = Duration::from_secs(10);
const HEAD_MAX_BYTES: usize = 32 << 10;

fn patient() -> Telling {
    Telling::new(A_WHILE, Unsent::up_to(usize::MAX))
}

/// A connection over which `sent` came, and nothing more will.
async fn connection(sent: &[u8]) -> Sips {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    sender.write_all(sent).await.unwrap();
    Sips::new(stream, A_WHILE, HEAD_MAX_BYTES, patient())
}

async fn has_more_to_say(sips: &mut Sips) -> bool {
    let mut more = [0; 1];
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *sips).poll_read(cx, &mut ReadBuf::new(&mut more)).is_ready())).await
}

fn bytes() -> Vec<u8> {
    (0..100_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect()
}

#[actix_web::test]
async fn after_a_sip_the_reader_looks_what_it_has_and_nothing_is_lost() {
    let sent = bytes();
    let mut sips = connection(&sent).await;
    sips.tap().begin_request(Body::Sized(usize::MAX));
    let mut got = vec![0; SIP_BYTES];
    sips.read_exact(&mut got).await.unwrap();
    assert!(!has_more_to_say(&mut sips).await, "there is more, and the reader is made to look at what it has");
    sips.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
}

#[actix_web::test]
async fn a_connection_that_is_put_off_is_read_when_its_turn_comes() {
    // As long as a head may be.
    let sent = bytes().split_off(bytes().len() - HEAD_MAX_BYTES);
    let mut sips = connection(&sent).await;
    let turn = Instant::now() + Duration::from_millis(50);
    sips.turn().put_off(turn);
    assert!(!has_more_to_say(&mut sips).await);
    let mut got = Vec::new();
    sips.read_to_end(&mut got).await.unwrap();
    assert!(got == sent && Instant::now() >= turn);
    assert_eq!([sips.turn().has_kept_waiting(), sips.turn().has_kept_waiting()], [true, false], "it was there before its turn");
}

#[actix_web::test]
async fn what_comes_after_the_turn_was_not_kept_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut sips = Sips::new(listener.accept().await.unwrap().0, A_WHILE, HEAD_MAX_BYTES, patient());
    sips.turn().put_off(Instant::now() + Duration::from_millis(20));
    let mut got = [0; 1];
    let mut reading = pin!(sips.read(&mut got));
    // Reads until its turn has come and nothing is there.
    assert!(timeout(Duration::from_millis(60), &mut reading).await.is_err());
    sender.write_all(b"a").await.unwrap();
    assert_eq!(reading.await.unwrap(), 1);
    assert!(!sips.turn().has_kept_waiting());
}

#[actix_web::test]
async fn a_closed_tap_gives_nothing_and_wakes_its_reader_when_it_opens() {
    let sent = bytes();
    let mut sips = connection(&sent).await;
    let tap = sips.tap();
    tap.begin_request(Body::Sized(usize::MAX));
    tap.close();
    assert!(!has_more_to_say(&mut sips).await);
    let reading = actix_web::rt::spawn(async move {
        let mut got = Vec::new();
        sips.read_to_end(&mut got).await.map(|_| got)
    });
    actix_web::rt::task::yield_now().await;
    assert!(!reading.is_finished());
    tap.open(SIP_BYTES);
    assert!(reading.await.unwrap().unwrap() == sent);
}

/// Reads as the server does: on until nothing is there, or is to be had, and with room made in front of what is left to read.
async fn read_as_the_server(sips: &mut Sips, buffer: &mut BytesMut) {
    poll_fn(|cx| {
        loop {
            let room = buffer.capacity() - buffer.len();
            if room < MOVES_BELOW_BYTES {
                buffer.reserve(SIP_BYTES - room);
            }
            match poll_read_buf(Pin::new(&mut *sips), cx, buffer) {
                Poll::Ready(read) => drop(read.unwrap()),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}

#[actix_web::test]
async fn the_buffer_of_a_connection_does_not_grow_with_its_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut sips = Sips::new(listener.accept().await.unwrap().0, A_WHILE, HEAD_MAX_BYTES, patient());
    let mut buffer = BytesMut::with_capacity(SIP_BYTES);
    for n in 0..=255_u8 {
        let request = vec![n; 600 + usize::from(n) * 37 % 400];
        sender.write_all(&request).await.unwrap();
        while buffer.len() < request.len() {
            sips.stream().readable().await.unwrap();
            read_as_the_server(&mut sips, &mut buffer).await;
        }
        assert!(buffer.split_to(request.len()) == request && buffer.is_empty());
        assert!(buffer.capacity() <= SIP_BYTES, "{} after {n}", buffer.capacity());
        sips.tap().begin_request(Body::Sized(0));
        sips.tap().answered();
    }
}

#[actix_web::test]
async fn an_answer_that_is_an_error_is_an_answer() {
    let tap = Tap::default();
    tap.begin_request(Body::Sized(0));
    let begun = Begun::of(&tap);
    let answer = begun.answer(async { Err::<ServiceResponse<()>, _>(ErrorNotFound("nothing is here")) }).await;
    assert!(answer.is_err() && tap.heads().are_idle(), "what is read now belongs to the next request");
}

#[actix_web::test]
async fn no_request_is_read_before_the_answers_are_taken_that_are_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut sips = Sips::new(listener.accept().await.unwrap().0, A_WHILE, HEAD_MAX_BYTES, patient());
    client.write_all(b"one more").await.unwrap();
    sips.stream().readable().await.unwrap();
    let (piece, mut n_told) = (vec![0; 64 << 10], 0);
    while let Poll::Ready(told) = poll_fn(|cx| Poll::Ready(Pin::new(&mut sips).poll_write(cx, &piece))).await {
        n_told += told.unwrap();
    }
    assert!(!has_more_to_say(&mut sips).await, "it is there, and is not read");
    let taking = actix_web::rt::spawn(async move { client.read_exact(&mut vec![0; n_told + 64 * 1024]).await.map(|_| client) });
    sips.write_all(&piece).await.unwrap();
    let mut got = [0; 8];
    sips.read_exact(&mut got).await.unwrap();
    assert_eq!((&got, taking.await.unwrap().is_ok()), (b"one more", true));
}

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// What the server gets before it looks at it.
async fn got_at_once(sips: &mut Sips) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(SIP_BYTES);
    sips.stream().readable().await.unwrap();
    read_as_the_server(sips, &mut buffer).await;
    buffer
}

#[actix_web::test]
async fn of_requests_that_come_at_once_the_next_is_read_when_the_one_before_is_answered() {
    let chunks = b"5\r\n0\r\n\r\n\r\n0\r\n\r\n";
    let bodies = [&b""[..], b"a body", chunks, b"", &bytes(), b""];
    let mut sips = connection(&bodies.map(|body| [HEAD, body].concat()).concat()).await;
    let tap = sips.tap();
    for body in bodies {
        assert_eq!(got_at_once(&mut sips).await, HEAD);
        tap.begin_request(if body == chunks { Body::Chunked(usize::MAX) } else { Body::Sized(body.len()) });
        let mut got = BytesMut::new();
        while got.len() < body.len() {
            got.unsplit(got_at_once(&mut sips).await);
        }
        assert!(got == body, "{} of {} bytes", got.len(), body.len());
        tap.answered();
    }
    assert_eq!(sips.read(&mut [0; 1]).await.unwrap(), 0, "that was all");
}

#[actix_web::test]
async fn what_is_behind_a_request_keeps_its_connection_from_doing_nothing_but_waking() {
    let mut sips = connection(&[HEAD, HEAD].concat()).await;
    assert_eq!(got_at_once(&mut sips).await, HEAD);
    sips.tap().begin_request(Body::Sized(0));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for _ in 0..3 {
        let mut more = [0; 1];
        assert!(Pin::new(&mut sips).poll_read(&mut Context::from_waker(&waker), &mut ReadBuf::new(&mut more)).is_pending());
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "nobody can do anything yet");
    sips.tap().answered();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(got_at_once(&mut sips).await, HEAD);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[actix_web::test]
async fn that_the_client_is_gone_is_noticed_while_its_request_is_answered() {
    let mut sips = connection(HEAD).await;
    assert_eq!(got_at_once(&mut sips).await, HEAD);
    sips.tap().begin_request(Body::Sized(0));
    assert_eq!(sips.read(&mut [0; 1]).await.unwrap(), 0);
}
