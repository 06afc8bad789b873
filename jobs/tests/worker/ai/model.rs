//! A language model on a port of its own, which answers as a test wants it to.

use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the platform is told to send, and never to show.
pub(super) const KEY: &str = "sk-a-key-for-tests";

/// What it does next; at the end of its steps it closes the connection.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Send(String),
    Pause(Duration),
    /// Says nothing more, and notes when the other side hangs up.
    Hang,
    Close,
    /// 10 MB of what may be a stream.
    Flood,
}

impl Step {
    /// A whole answer; `headers` end their lines themselves.
    pub(super) fn status(status: u16, headers: &str, body: &str) -> Self {
        Self::Send(format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
    }

    /// A stream begins.
    pub(super) fn head() -> Self {
        Self::Send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned())
    }

    pub(super) fn bit(text: &str) -> Self {
        Self::event(&json!({"model": "fake-1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
    }

    fn event(data: &serde_json::Value) -> Self {
        Self::Send(format!("data: {data}\n\n"))
    }
}

/// A whole completion, as OpenAI's API streams it.
pub(super) fn answer(bits: &[&str]) -> Vec<Step> {
    let mut steps = vec![Step::head(), Step::event(&json!({"choices": [{"delta": {"role": "assistant"}}]}))];
    steps.extend(bits.iter().map(|bit| Step::bit(bit)));
    steps.push(Step::event(&json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})));
    steps.push(Step::event(&json!({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}})));
    steps.push(Step::Send("data: [DONE]\n\n".to_owned()));
    steps
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: String,
}

pub(super) struct FakeModel {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    n_hung_up: Arc<AtomicUsize>,
}

impl FakeModel {
    /// `answer` is given how many questions came before.
    pub(super) async fn start(answer: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (asked, n_hung_up) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let model = Self { url, asked: Arc::clone(&asked), n_hung_up: Arc::clone(&n_hung_up) };
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, n_hung_up, answer) = (Arc::clone(&asked), Arc::clone(&n_hung_up), Arc::clone(&answer));
                tokio::spawn(async move { drop(serve(stream, &asked, &n_hung_up, &*answer).await) });
            }
        });
        model
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) async fn was_asked(&self, n: usize) {
        until("asked", || self.asked().len() >= n).await;
    }

    pub(super) async fn was_hung_up_on(&self, n: usize) {
        until("hung up on", || self.n_hung_up.load(Ordering::Relaxed) >= n).await;
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "the model was never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    n_hung_up: &AtomicUsize,
    answer: &(dyn Fn(usize) -> Vec<Step> + Send + Sync),
) -> std::io::Result<()> {
    let question = read(&mut stream).await?;
    let n_before = {
        let mut asked = asked.lock().unwrap();
        asked.push(question);
        asked.len() - 1
    };
    for step in answer(n_before) {
        match step {
            Step::Send(text) => stream.write_all(text.as_bytes()).await?,
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Close => return Ok(()),
            Step::Hang => {
                while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
                n_hung_up.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Step::Flood => {
                let Step::Send(bit) = Step::bit(&"x".repeat(10_000)) else { return Ok(()) };
                for _ in 0..1_000 {
                    stream.write_all(bit.as_bytes()).await?;
                }
            }
        }
    }
    Ok(())
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Asked> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.expect("a question has a body") {
            return Ok(Asked { head: format!("{head}\r\n"), body: body.to_owned() });
        }
    }
}
