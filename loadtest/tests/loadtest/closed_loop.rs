//! The closed loop: counts, framing, closed connections, failures.

use crate::measure;
use crate::stub::{Reply, Stub};

#[test]
fn every_answer_is_counted_and_connections_are_kept() {
    let stub = Stub::start(|_| Reply::ok());
    let report = measure(&stub, "-c 4").unwrap();
    let figures = &report.rows[0].median;
    assert!(figures.requests > 4, "{} requests", figures.requests);
    assert!(figures.requests <= stub.n_requests());
    assert_eq!(figures.statuses.get(&200), Some(&figures.requests));
    assert_eq!((figures.errors.total, figures.reconnects), (0, 0));
    assert_eq!(stub.n_connections(), 4);
    assert!(figures.schedule.is_none());
}

#[test]
fn chunked_answers_in_pieces_are_read_whole() {
    let stub = Stub::start(|request| {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            4\r\nmill\r\n4\r\nrace\r\n0\r\n\r\n";
        let cut = 1 + request.number as usize % (answer.len() - 1);
        let (head, tail) = answer.split_at(cut);
        Reply::Pieces(vec![head.to_vec(), tail.to_vec()])
    });
    let report = measure(&stub, "-c 2").unwrap();
    let figures = &report.rows[0].median;
    assert!(figures.requests > 2);
    assert_eq!((figures.errors.total, figures.reconnects), (0, 0));
}

#[test]
fn a_server_that_closes_after_each_answer_is_connected_to_again() {
    let stub = Stub::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        Reply::ThenClose(head.to_vec())
    });
    let report = measure(&stub, "-c 2").unwrap();
    let figures = &report.rows[0].median;
    assert_eq!(figures.errors.total, 0);
    assert!(figures.reconnects > 0);
    assert_eq!(figures.reconnects + 2, stub.n_connections());
}

#[test]
fn a_body_that_ends_with_the_connection_is_an_answer() {
    let stub = Stub::start(|_| Reply::ThenClose(b"HTTP/1.1 200 OK\r\n\r\nuntil close".to_vec()));
    let report = measure(&stub, "-c 1").unwrap();
    let figures = &report.rows[0].median;
    assert!(figures.requests > 0);
    assert_eq!(figures.errors.total, 0);
}

#[test]
fn failures_are_told_apart_and_refusals_counted_by_status() {
    let stub = Stub::start(|request| match request.number % 4 {
        0 => Reply::json(503, "{}"),
        1 => Reply::ThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_vec()),
        2 => Reply::ThenClose(b"no HTTP at all\r\n\r\n".to_vec()),
        _ => Reply::ok(),
    });
    let report = measure(&stub, "-c 1 -d 300ms").unwrap();
    let figures = &report.rows[0].median;
    let errors = figures.errors;
    assert!(errors.not_2xx > 0 && errors.closed > 0 && errors.malformed > 0, "{errors:?}");
    assert_eq!(figures.statuses.get(&503), Some(&errors.not_2xx));
    assert_eq!(errors.total, errors.not_2xx + errors.closed + errors.malformed);
    assert!(figures.refusal_latency_ms.is_some() && figures.latency_ms.is_some());
}

#[test]
fn an_answer_that_never_comes_is_a_timeout() {
    let stub = Stub::start(|request| match request.number {
        0 => Reply::ok(),
        _ => Reply::Nothing,
    });
    let report = measure(&stub, "-c 1 --warmup 0.001ms -d 900ms --timeout 1s --path /slow").unwrap();
    assert_eq!(report.rows[0].median.errors.timeouts, 1);
}

#[test]
fn a_ladder_has_a_row_per_step_and_a_reference_is_measured_in_turns() {
    let stub = Stub::start(|_| Reply::ok());
    let reference = Stub::start(|_| Reply::ok());
    let options = format!("--ladder 1,3 --repeat 2 --reference-url {}/hello", reference.url());
    let report = measure(&stub, &options).unwrap();
    let connections: Vec<u32> = report.rows.iter().map(|row| row.connections).collect();
    assert_eq!(connections, [1, 3]);
    assert_eq!(stub.n_connections(), 2 * (1 + 3));
    for row in &report.rows {
        let compared = row.reference.as_ref().unwrap();
        assert_eq!((row.runs.len(), compared.runs.len()), (2, 2));
        assert!(compared.ratio.is_some());
    }
    assert!(reference.lines().iter().all(|line| line == "GET /hello HTTP/1.1"));
}
