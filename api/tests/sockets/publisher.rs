//! A client that publishes numbers, several at a time, and each until it is accepted.

use super::wire::{Said, Wire};
use serde_json::json;
use std::{collections::VecDeque, net::SocketAddr, time::Duration};

/// Publications on their way at once.
const WINDOW: usize = 16;
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Publisher {
    wire: Wire,
    channel: String,
    /// Publications that were refused, and sent again.
    pub(crate) n_refused: usize,
}

impl Publisher {
    pub(crate) async fn connect(home: SocketAddr, channel: &str) -> Self {
        let mut wire = Wire::open(home).await.expect("the process lets it in");
        wire.send(r#"{"id":1,"connect":{}}"#).await.expect("it is up");
        loop {
            if let Said::Reply { error, .. } = wire.next().await {
                assert_eq!(error, None);
                return Self { wire, channel: channel.to_owned(), n_refused: 0 };
            }
        }
    }

    /// Publishes each of `numbers`, in their order unless some are refused; `accepted` is told of each.
    pub(crate) async fn publish(&mut self, numbers: impl IntoIterator<Item = u32>, mut accepted: impl FnMut(u32)) {
        let (mut due, mut on_the_way): (VecDeque<u32>, VecDeque<u32>) = (numbers.into_iter().collect(), VecDeque::new());
        loop {
            while on_the_way.len() < WINDOW
                && let Some(data) = due.pop_front()
            {
                let command = json!({"id": 2, "publish": {"channel": self.channel, "data": data}});
                self.wire.send(&command.to_string()).await.expect("the process is up");
                on_the_way.push_back(data);
            }
            if on_the_way.is_empty() {
                return;
            }
            match self.wire.next().await {
                Said::Reply { error, .. } => {
                    let data = on_the_way.pop_front().expect("a reply is to a command");
                    if error.is_none() {
                        accepted(data);
                        continue;
                    }
                    assert_eq!(error, Some(100), "it may be tried again");
                    self.n_refused += 1;
                    due.push_back(data);
                    tokio::time::sleep(PAUSE).await;
                }
                Said::Ping => self.wire.send("{}").await.expect("the process is up"),
                Said::Closed(code) => panic!("a publisher is closed with {code}"),
                Said::Publication { .. } | Said::Unsubscribed(_) | Said::Other => {}
            }
        }
    }
}
