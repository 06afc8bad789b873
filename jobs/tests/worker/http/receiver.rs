//! A receiver of deliveries on a port of its own, which answers as a test wants it to.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) enum Reply {
    Text(String),
    /// A success once this is true.
    Held(watch::Receiver<bool>),
    /// Says nothing, and keeps the connection.
    Hang,
    /// Ends the connection without a word.
    Cut,
    /// A success with a body of 10 MB.
    Flood,
}

impl Reply {
    /// `headers` end their lines themselves.
    pub(crate) fn status(status: u16, headers: &str, body: &str) -> Self {
        Self::Text(format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.split(':').next().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        line.and_then(|line| line.split_once(": ")).unwrap_or_else(|| panic!("{name} in {}", self.head)).1
    }
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    /// `answer` is given how many requests came before.
    pub(crate) async fn start(answer: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (all, answer) = (Arc::clone(&seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                tokio::spawn(async move { drop(serve(stream, &all, &*answer).await) });
            }
        });
        Self { url, seen }
    }

    /// Waits until there have been so many requests.
    pub(crate) async fn was_reached(&self, n_times: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.seen().len() < n_times {
            assert!(Instant::now() < deadline, "there never were {n_times} deliveries");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, all: &Mutex<Vec<Seen>>, answer: &(dyn Fn(usize) -> Reply + Send + Sync)) -> std::io::Result<()> {
    let seen = read(&mut stream).await?;
    let n_before = {
        let mut all = all.lock().unwrap();
        all.push(seen);
        all.len() - 1
    };
    match answer(n_before) {
        Reply::Text(text) => stream.write_all(text.as_bytes()).await,
        Reply::Held(mut opened) => {
            drop(opened.wait_for(|is_open| *is_open).await);
            stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await
        }
        Reply::Hang => std::future::pending().await,
        Reply::Cut => Ok(()),
        Reply::Flood => {
            stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 10000000\r\n\r\n").await?;
            for _ in 0..1_000 {
                stream.write_all(&[b'x'; 10_000]).await?;
            }
            Ok(())
        }
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Seen> {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await?;
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let seen = Seen { head: format!("{head}\r\n"), body: body.to_owned(), at: Instant::now() };
        let length = if head.to_lowercase().contains("content-length") { seen.header("content-length").parse().unwrap() } else { 0 };
        if body.len() >= length {
            return Ok(seen);
        }
    }
}
