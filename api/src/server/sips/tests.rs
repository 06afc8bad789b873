//! Connections that are read as the server reads them.

use super::{super::telling::Unsent, *};
use actix_web::{error::ErrorNotFound, rt::net::TcpListener};
use bytes::BytesMut;
use std::{future::poll_fn, pin::pin, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::io::poll_read_buf;

const A_WHILE: Duration = Duration::from_secs(10);

fn patient() -> Telling {
    Telling::new(A_WHILE, Unsent::up_to(usize::MAX))
}

/// A connection over which `sent` came, and nothing more will.
async fn connection(sent: &[u8]) -> Sips {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    sender.write_all(sent).await.unwrap();
    Sips::new(stream, A_WHILE, patient())
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
    let mut got = vec![0; SIP_BYTES];
    sips.read_exact(&mut got).await.unwrap();
    assert!(!has_more_to_say(&mut sips).await, "there is more, and the reader is made to look at what it has");
    sips.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
}

#[actix_web::test]
async fn a_connection_that_is_put_off_is_read_when_its_turn_comes() {
    let sent = bytes();
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
    let mut sips = Sips::new(listener.accept().await.unwrap().0, A_WHILE, patient());
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

/// Reads as the server does: on until nothing is there, and with room made in front of what is left to read.
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
    let mut sips = Sips::new(listener.accept().await.unwrap().0, A_WHILE, patient());
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
        sips.tap().0.heads.came();
        sips.tap().0.heads.answered();
    }
}

#[actix_web::test]
async fn an_answer_that_is_an_error_is_an_answer() {
    let tap = Tap::default();
    tap.begin_request();
    let begun = Begun { tap: Some(tap.clone()), has_body: false };
    let answer = begun.answer(async { Err::<ServiceResponse<()>, _>(ErrorNotFound("nothing is here")) }).await;
    assert!(answer.is_err() && tap.0.heads.are_idle(), "what is read now belongs to the next request");
}

#[actix_web::test]
async fn no_request_is_read_before_the_answers_are_taken_that_are_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut sips = Sips::new(listener.accept().await.unwrap().0, A_WHILE, patient());
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
