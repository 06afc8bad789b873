//! A subscriber that always comes back.

use super::{
    book::Book,
    wire::{Said, Wire},
};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Before another attempt, so that a server that is away is not asked all the time.
const PAUSE: Duration = Duration::from_millis(20);

/// Who makes the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    /// It comes with the token; where it cannot go on, the connection ends.
    Server,
}

#[derive(Debug)]
pub(crate) struct Follower {
    /// Processes, the one that it is connected to first.
    homes: VecDeque<SocketAddr>,
    channel: String,
    side: Side,
    wire: Wire,
    pub(crate) book: Book,
}

impl Follower {
    /// Subscribed, at the first of `homes` that takes it.
    pub(crate) async fn join(homes: impl IntoIterator<Item = SocketAddr>, channel: &str, side: Side) -> Self {
        let (mut homes, channel, mut book) = (homes.into_iter().collect(), channel.to_owned(), Book::default());
        let wire = enter(&mut homes, &channel, side, &mut book).await;
        Self { homes, channel, side, wire, book }
    }

    /// Which process it is connected to.
    pub(crate) fn home(&self) -> SocketAddr {
        self.homes[0]
    }

    /// The next publication; comes back whenever the subscription or the connection ends.
    pub(crate) async fn hear(&mut self) -> u32 {
        loop {
            match self.wire.next().await {
                Said::Publication { offset, data } => {
                    self.book.take(offset, data);
                    return data;
                }
                // A connection that ended meanwhile is noticed by the next look at it.
                Said::Ping => drop(self.wire.send("{}").await),
                Said::Unsubscribed(code) => {
                    self.book.unsubscribes.push(code);
                    self.subscribe_again().await;
                }
                Said::Reply { .. } | Said::Other => {}
                Said::Closed(code) => {
                    self.book.closes.push(code);
                    self.book.closed_at.push(Instant::now());
                    self.homes.rotate_left(1);
                    self.wire = enter(&mut self.homes, &self.channel, self.side, &mut self.book).await;
                }
            }
        }
    }

    pub(crate) async fn hear_until(&mut self, last: u32) {
        while self.hear().await != last {}
    }

    async fn subscribe_again(&mut self) {
        let wire = &mut self.wire;
        while let Ok(error) = subscribe(wire, &self.channel, &mut self.book).await {
            if error.is_none() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        // The next look at the connection sees that it has ended.
    }
}

/// Connects and subscribes, over and over, at one process after the other.
async fn enter(homes: &mut VecDeque<SocketAddr>, channel: &str, side: Side, book: &mut Book) -> Wire {
    loop {
        if let Ok(wire) = try_to_enter(homes[0], channel, side, book).await {
            return wire;
        }
        homes.rotate_left(1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// It did not work: another attempt is to be made.
struct Refused;

async fn try_to_enter(home: SocketAddr, channel: &str, side: Side, book: &mut Book) -> Result<Wire, Refused> {
    let mut wire = Wire::open(home).await.map_err(|_| Refused)?;
    let mut request = json!({});
    if side == Side::Server {
        // The tests allow everything: nobody looks at the signature.
        let claims = json!({"sub": "42", "channels": [channel]});
        request["token"] =
            jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"any")).expect("claims are JSON").into();
        request["subs"] = json!({channel: since(json!({}), book)});
    }
    wire.send(&json!({"id": 1, "connect": request}).to_string()).await.map_err(|_| Refused)?;
    let connected = reply(&mut wire, 1).await?.map_err(|_| Refused)?;
    match side {
        Side::Server => note(&connected["connect"]["subs"][channel], book),
        Side::Client => loop {
            match subscribe(&mut wire, channel, book).await? {
                None => break,
                Some(100) => tokio::time::sleep(PAUSE).await,
                Some(code) => panic!("subscribe is refused with {code}"),
            }
        },
    }
    Ok(wire)
}

/// Subscribes from where the book ends; gives the error's code if there is one.
async fn subscribe(wire: &mut Wire, channel: &str, book: &mut Book) -> Result<Option<u64>, Refused> {
    let request = since(json!({"channel": channel, "positioned": true, "recoverable": true}), book);
    wire.send(&json!({"id": 2, "subscribe": request}).to_string()).await.map_err(|_| Refused)?;
    match reply(wire, 2).await? {
        Ok(result) => {
            note(&result["subscribe"], book);
            Ok(None)
        }
        Err(code) => Ok(Some(code)),
    }
}

fn since(mut request: Value, book: &Book) -> Value {
    if let Some((epoch, offset)) = book.position() {
        request["recover"] = true.into();
        request["offset"] = offset.into();
        request["epoch"] = epoch.into();
    }
    request
}

/// Notes how a subscription begins.
fn note(result: &Value, book: &mut Book) {
    let offset = result["offset"].as_u64().unwrap_or_default();
    let epoch = result["epoch"].as_str().expect("the channel has positions");
    if result["recovered"] != true {
        assert_eq!(result["was_recovering"] == true, book.position().is_some());
        book.begin(epoch, offset);
        return;
    }
    assert_eq!(book.position(), Some((epoch, offset)), "it goes on from where it was asked to");
    book.n_recovered += 1;
    for publication in result["publications"].as_array().into_iter().flatten() {
        let data = u32::try_from(publication["data"].as_u64().expect("data are numbers")).expect("small ones");
        book.take(publication["offset"].as_u64().expect("it is kept"), data);
    }
}

/// The answer to a command: its result, or the code of its error.
async fn reply(wire: &mut Wire, to: u64) -> Result<Result<Value, u64>, Refused> {
    loop {
        match wire.next().await {
            Said::Reply { id, error, result } if id == to => return Ok(error.map_or(Ok(result), Err)),
            Said::Closed(_) => return Err(Refused),
            Said::Ping => wire.send("{}").await.map_err(|_| Refused)?,
            Said::Publication { .. } | Said::Reply { .. } | Said::Unsubscribed(_) | Said::Other => {}
        }
    }
}
