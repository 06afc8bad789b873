//! The loop of one connection of the link: connects, listens, hands on, and begins again when the connection ends.

use super::{
    Probing,
    payload::{self, Payload},
    place::Place,
    probe::Probe,
    resp::{self, Frame, Message},
    subscriptions::{Subscriptions, Verb},
};
use crate::{
    Context,
    channels::{ChannelName, Control, Delivery},
    redis::Wire,
};
use bytes::BytesMut;
use rand::RngExt as _;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};

/// Deliveries handed on together.
pub(super) const BATCH_MAX: usize = 1_024;
/// Room for one read. What is delivered are slices of it, so that it is freed when the last of them is.
const READ_BYTES: usize = 256 << 10;
const READ_BYTES_MIN: usize = 32 << 10;
/// Redis takes commands at once, or is away.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
const RECONNECT_AFTER_MIN: Duration = Duration::from_millis(50);
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum Request {
    Subscribe { channels: Vec<ChannelName>, done: oneshot::Sender<()> },
    Unsubscribe { channels: Vec<ChannelName> },
}

/// Why a connection is not listened to any more.
enum Ended {
    /// Nobody asks or listens: the link is over.
    Closed,
    Lost(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// What is asked for and given on one connection.
pub(super) struct Ends {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) deliveries: mpsc::Sender<Vec<Delivery>>,
    /// Told when the first connection stands.
    pub(super) connected: Option<oneshot::Sender<()>>,
}

/// Listens at `place` until nobody asks or listens any more.
pub(super) async fn run(ctx: Context, place: Place, ends: Ends, probing: Probing) {
    let Ends { requests, deliveries, mut connected } = ends;
    let control_channel = ctx.keys.channels_control();
    let mut task =
        Task { ctx, place, requests, deliveries, probing, control_channel, subscriptions: Subscriptions::default(), is_restoring: false };
    let mut reconnect_after = RECONNECT_AFTER_MIN;
    loop {
        match task.connect().await {
            Ok(connection) => {
                reconnect_after = RECONNECT_AFTER_MIN;
                // Whoever waits for it may be gone.
                let _ = connected.take().map(|connected| connected.send(()));
                match task.listen(connection).await {
                    Ended::Closed => return,
                    Ended::Lost(error) => tracing::warn!(%error, "the connection for publications was lost"),
                }
                task.subscriptions.start_over();
                if !task.is_restoring && task.deliveries.send(vec![Delivery::Lost]).await.is_err() {
                    return;
                }
                task.is_restoring = true;
            }
            Err(error) => tracing::debug!(%error, "Redis cannot be listened to yet"),
        }
        if task.wait(reconnect_after).await.is_err() {
            return;
        }
        reconnect_after = (reconnect_after * 2).min(RECONNECT_AFTER_MAX);
    }
}

struct Task {
    ctx: Context,
    place: Place,
    requests: mpsc::Receiver<Request>,
    deliveries: mpsc::Sender<Vec<Delivery>>,
    probing: Probing,
    control_channel: String,
    subscriptions: Subscriptions,
    /// Whether a loss was announced, and its end was not.
    is_restoring: bool,
}

/// A connection that hears orders and probes; what it has read and not understood yet is in `read`.
struct Connection {
    wire: Wire,
    read: BytesMut,
    probe: Probe,
    ticks: Interval,
}

impl Task {
    async fn connect(&self) -> crate::Result<Connection> {
        let mut ticks = interval(self.probing.patience.min(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let probe = Probe::new(self.place.probe_channel(&self.ctx), self.place.publish_verb(), self.probing);
        let wire = self.place.connect(&self.ctx).await?;
        let mut connection = Connection { wire, read: BytesMut::with_capacity(READ_BYTES), probe, ticks };
        let (probe_channel, control_channel) = (connection.probe.channel.as_bytes(), self.control_channel.as_bytes());
        let names = if self.place.hears_orders() { &[probe_channel, control_channel][..] } else { &[probe_channel] };
        let (mut command, mut n_left) = (Vec::new(), names.len());
        resp::command(self.place.subscribe_verb(), names.iter().copied(), &mut command);
        let opened = timeout(WRITE_WITHIN, async {
            connection.wire.stream.write_all(&command).await?;
            while n_left > 0 {
                match connection.next_frame()? {
                    Some(Frame::Subscribed(_)) => n_left -= 1,
                    Some(Frame::Refused(error)) => return Err(io::Error::other(error)),
                    // Nobody can be told yet; nothing is subscribed that it could be about.
                    Some(Frame::Message(_) | Frame::Unsubscribed(_) | Frame::Other) => {}
                    None => connection.fill().await?,
                }
            }
            Ok(())
        });
        let opened = opened.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.inspect_err(|_| self.place.doubt()).map_err(|error| crate::Error::from(redis::RedisError::from(error)))?;
        Ok(connection)
    }

    async fn listen(&mut self, mut connection: Connection) -> Ended {
        // What came behind the first confirmations is read already.
        if let Err(ended) = self.take_in(&mut connection).await {
            return ended;
        }
        loop {
            if let Err(ended) = self.turn(&mut connection).await {
                return ended;
            }
        }
    }

    async fn turn(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        self.send_due(connection).await?;
        tokio::select! {
            filled = connection.wire.stream.read_buf(&mut connection.read) => {
                if filled? == 0 {
                    return Err(Ended::Lost(io::ErrorKind::UnexpectedEof.into()));
                }
                self.take_in(connection).await
            }
            request = self.requests.recv() => {
                self.note(request.ok_or(Ended::Closed)?);
                Ok(())
            }
            () = &mut connection.wire.left => Err(Ended::Lost(io::Error::other("another server is to be listened to"))),
            _ = connection.ticks.tick() => {
                if self.deliveries.is_closed() {
                    return Err(Ended::Closed);
                }
                if connection.probe.is_overdue(&self.ctx).await && !connection.has_more().await? {
                    return Err(Ended::Lost(io::Error::other("a message to ourselves was not heard")));
                }
                self.take_in(connection).await
            }
        }
    }

    /// Sends what Redis has yet to be told, and tells the receiver when that is all after a loss.
    async fn send_due(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        let mut commands = Vec::new();
        while let Some((verb, names)) = self.subscriptions.next_batch() {
            let verb = match verb {
                Verb::Subscribe => self.place.subscribe_verb(),
                Verb::Unsubscribe => self.place.unsubscribe_verb(),
            };
            for names in names.chunks(self.place.names_at_once()) {
                resp::command(verb, names.iter().map(|name| &**name), &mut commands);
            }
        }
        if !commands.is_empty() {
            timeout(WRITE_WITHIN, connection.wire.stream.write_all(&commands))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        if self.is_restoring && self.subscriptions.is_settled() {
            self.is_restoring = false;
            self.deliver(vec![Delivery::Restored]).await?;
        }
        Ok(())
    }

    /// Hands on every whole message that was read.
    async fn take_in(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        let mut batch = Vec::new();
        while let Some(frame) = connection.next_frame()? {
            match frame {
                Frame::Message(message) => batch.extend(self.delivery(&message, &mut connection.probe)),
                Frame::Subscribed(channel) => self.subscriptions.confirm(&channel),
                Frame::Refused(error) => {
                    self.place.doubt();
                    return Err(Ended::Lost(io::Error::other(error)));
                }
                Frame::Unsubscribed(channel) if self.is_taken_away(&channel, &connection.probe) => {
                    self.place.doubt();
                    return Err(Ended::Lost(io::Error::other("a slot has moved")));
                }
                Frame::Unsubscribed(_) | Frame::Other => {}
            }
            if batch.len() >= BATCH_MAX {
                self.deliver(std::mem::take(&mut batch)).await?;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.deliver(batch).await }
    }

    /// Whether a channel that is wanted here is another server's now.
    fn is_taken_away(&self, pubsub_channel: &[u8], probe: &Probe) -> bool {
        self.subscriptions.is_confirmed(pubsub_channel) || pubsub_channel == probe.channel.as_bytes()
    }

    fn delivery(&mut self, message: &Message, probe: &mut Probe) -> Option<Delivery> {
        let Some(entry) = self.subscriptions.get_mut(message.channel()) else {
            return self.special(message, probe);
        };
        let channel = entry.name.clone();
        match payload::parse(&message.payload())? {
            Payload::Publication { epoch, publication } => {
                if *entry.epoch.as_bytes() != *epoch {
                    entry.epoch = str::from_utf8(&epoch).ok()?.into();
                }
                Some(Delivery::Publication { channel, epoch: std::sync::Arc::clone(&entry.epoch), publication })
            }
            Payload::Join(info) => Some(Delivery::Join { channel, info }),
            Payload::Leave(info) => Some(Delivery::Leave { channel, info }),
        }
    }

    /// What is no channel's: an order, our own probe, or the rest of a channel that was unsubscribed.
    fn special(&self, message: &Message, probe: &mut Probe) -> Option<Delivery> {
        if message.channel() == probe.channel.as_bytes() {
            probe.heard();
            return None;
        }
        if message.channel() != self.control_channel.as_bytes() {
            return None;
        }
        match serde_json::from_slice::<Control>(&message.payload()) {
            Ok(control) => Some(Delivery::Control(Box::new(control))),
            // A newer process may say what this one does not know.
            Err(error) => {
                tracing::warn!(%error, "an order for connections is not understood");
                None
            }
        }
    }

    async fn deliver(&self, batch: Vec<Delivery>) -> Result<(), Ended> {
        self.deliveries.send(batch).await.map_err(|_| Ended::Closed)
    }

    fn note(&mut self, request: Request) {
        match request {
            Request::Subscribe { channels, done } => {
                let named = channels.into_iter().map(|name| (self.ctx.keys.channel(name.as_str()), name));
                self.subscriptions.want(named, done);
            }
            Request::Unsubscribe { channels } => {
                self.subscriptions.unwant(channels.iter().map(|name| self.ctx.keys.channel(name.as_str())));
            }
        }
    }

    /// Takes requests while there is no connection.
    async fn wait(&mut self, delay: Duration) -> Result<(), Ended> {
        // Processes that lost the same server do not all come back at once.
        let mut over = std::pin::pin!(sleep(delay.mul_f64(rand::rng().random_range(0.5..1.0))));
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                request = self.requests.recv() => self.note(request.ok_or(Ended::Closed)?),
                () = self.deliveries.closed() => return Err(Ended::Closed),
            }
        }
    }
}

impl Connection {
    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let frame = resp::next(&mut self.read).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if frame.is_none() && self.read.capacity() - self.read.len() < READ_BYTES_MIN {
            self.read.reserve(READ_BYTES);
        }
        Ok(frame)
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.wire.stream.read_buf(&mut self.read).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Whether something lies ready to be read: then nobody can say yet that a message is missing.
    async fn has_more(&mut self) -> io::Result<bool> {
        match timeout(Duration::ZERO, self.fill()).await {
            Ok(filled) => filled.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}
