//! Exchanges with servers of this machine, and with names that change their mind.

use super::*;
use crate::outbound::guard::Resolve;
use futures_util::future::BoxFuture;
use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Public at first, and this machine from the second time on.
#[derive(Debug, Default)]
struct Rebinding(AtomicUsize);

impl Resolve for Rebinding {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let is_first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
        let address: IpAddr = if is_first { [93, 184, 216, 34].into() } else { [127, 0, 0, 1].into() };
        Box::pin(async move { Ok(vec![SocketAddr::new(address, port)]) })
    }
}

fn request(outbound: &Outbound, url: &str) -> Request {
    let target = outbound.guard().parse(url).unwrap();
    let timeout = Duration::from_secs(5);
    Request { target, method: Method::POST, headers: HeaderMap::new(), body: Bytes::from_static(b"{}"), timeout }
}

#[tokio::test]
async fn a_name_that_was_public_when_it_was_registered_does_not_lead_inside_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outbound = Outbound::new(Guard::with_resolver(&[], Arc::new(Rebinding::default())));
    let request = request(&outbound, &format!("http://rebinding.example.org:{}/", listener.local_addr().unwrap().port()));
    outbound.guard().resolve(&request.target).await.unwrap();
    let error = outbound.send(request).await.unwrap_err();
    assert!(matches!(error, SendError::Refused(Refused::NotPublic)), "{error}");
    let nobody = timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(nobody.is_err(), "nothing was even connected to");
}

#[tokio::test]
async fn the_host_is_named_and_the_path_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outbound = Outbound::new(Guard::new(&["127.0.0.0/8".parse().unwrap()]));
    let url = format!("http://127.0.0.1:{}/a%20b?c=d", listener.local_addr().unwrap().port());
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4_096];
        let n = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 201 Created\r\nx: y\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        String::from_utf8_lossy(&head[..n]).into_owned()
    };
    let (head, answer) = tokio::join!(served, outbound.send(request(&outbound, &url)));
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.excerpt.as_str(), &answer.headers["x"]), (201, "ok", &HeaderValue::from_static("y")));
    assert!(head.starts_with("POST /a%20b?c=d HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: 127.0.0.1:{}\r\n", listener.local_addr().unwrap().port())), "{head}");
}
