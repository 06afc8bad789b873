//! One channel as a thread sees it: who is subscribed, and where each stands.

use crate::socket::{connection::Connection, memory::Memory, outbox::Frame};
use bytes::Bytes;
use shared::channels::{Channel, Position, Publication, recovery::Buffered};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};
use tokio::sync::oneshot;

/// Publications that are kept for a subscription while it begins; with more, it has a gap.
const BUFFERED_MAX: usize = 1_000;

#[derive(Debug)]
pub(in crate::socket) struct HubChannel {
    pub(in crate::socket) channel: Channel,
    listening: RefCell<Listening>,
    subscribers: RefCell<Vec<Subscriber>>,
    /// Where those stand who follow: the epoch in which their offsets count, and the last offset that was heard.
    epoch: RefCell<Arc<str>>,
    top: Cell<u64>,
}

/// Whether publications reach this thread.
#[derive(Debug)]
enum Listening {
    /// Not yet, and who waits for it.
    Asked(Vec<oneshot::Sender<()>>),
    Confirmed,
}

/// One subscription. There are as many as sockets and more: keep it small.
#[derive(Debug)]
struct Subscriber {
    connection: Rc<Connection>,
    standing: Standing,
    hears_presence: bool,
}

/// How a subscriber takes publications.
#[derive(Debug)]
pub(in crate::socket) enum Standing {
    /// It has not begun: they are kept for it.
    Buffering(Rc<Buffer>),
    /// In order and without gaps, beyond this offset.
    Following(u64),
    /// As they come.
    Listening,
}

/// What came while a subscription was beginning.
#[derive(Debug, Default)]
pub(in crate::socket) struct Buffer {
    publications: RefCell<Vec<Buffered>>,
    has_overflown: Cell<bool>,
}

impl Buffer {
    fn push(&self, epoch: &Arc<str>, publication: &Publication) {
        let mut publications = self.publications.borrow_mut();
        if publications.len() < BUFFERED_MAX {
            publications.push(Buffered { epoch: Arc::clone(epoch), publication: publication.clone() });
        } else {
            self.has_overflown.set(true);
        }
    }

    /// `None` when not all could be kept.
    pub(in crate::socket) fn take(&self) -> Option<Vec<Buffered>> {
        let publications = self.publications.take();
        (!self.has_overflown.get()).then_some(publications)
    }
}

impl HubChannel {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            listening: RefCell::new(Listening::Asked(Vec::new())),
            subscribers: RefCell::default(),
            epoch: RefCell::new("".into()),
            top: Cell::new(0),
        }
    }

    pub(in crate::socket) fn name(&self) -> &str {
        self.channel.name.as_str()
    }

    /// Waits until publications reach this thread; `false` when they do not.
    pub(in crate::socket) async fn listening(&self) -> bool {
        let confirmed = {
            let Listening::Asked(waiting) = &mut *self.listening.borrow_mut() else { return true };
            let (waiter, confirmed) = oneshot::channel();
            waiting.push(waiter);
            confirmed
        };
        confirmed.await.is_ok()
    }

    pub(super) fn is_confirmed(&self) -> bool {
        matches!(*self.listening.borrow(), Listening::Confirmed)
    }

    pub(super) fn confirm(&self) {
        if let Listening::Asked(waiting) = self.listening.replace(Listening::Confirmed) {
            for waiter in waiting {
                // It may have gone away.
                let _ = waiter.send(());
            }
        }
    }

    /// Those who wait are told that there is nothing to wait for.
    pub(super) fn give_up(&self) {
        self.listening.replace(Listening::Asked(Vec::new()));
    }

    /// Takes a subscriber in, and gives its place.
    pub(super) fn join(&self, connection: Rc<Connection>, standing: Standing, hears_presence: bool) -> u32 {
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.push(Subscriber { connection, standing, hears_presence });
        u32::try_from(subscribers.len() - 1).expect("a thread has fewer sockets")
    }

    /// Lets the subscriber at `place` go; the last one takes its place.
    pub(super) fn leave(&self, place: u32) {
        let mut subscribers = self.subscribers.borrow_mut();
        let left = subscribers.swap_remove(place as usize);
        if let Some(moved) = subscribers.get(place as usize) {
            moved.connection.moved(self, place);
        }
        if subscribers.capacity() > 2 * subscribers.len() + 16 {
            subscribers.shrink_to_fit();
        }
        drop(subscribers);
        drop(left);
    }

    pub(in crate::socket) fn set_standing(&self, place: u32, standing: Standing) {
        self.subscribers.borrow_mut()[place as usize].standing = standing;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.borrow().is_empty()
    }

    /// The ids of the clients that others see here.
    pub(super) fn present_clients(&self) -> Vec<Arc<str>> {
        let subscribers = self.subscribers.borrow();
        subscribers
            .iter()
            .filter(|subscriber| subscriber.connection.is_present_in(self))
            .filter_map(|subscriber| subscriber.connection.client())
            .collect()
    }

    /// Where those who follow stand, if there are any.
    pub(super) fn followed(&self) -> Option<Position> {
        let follows = |subscriber: &Subscriber| matches!(subscriber.standing, Standing::Following(_));
        let is_followed = self.subscribers.borrow().iter().any(follows);
        is_followed.then(|| Position { offset: self.top.get(), epoch: Arc::clone(&self.epoch.borrow()) })
    }

    /// Somebody has read that the channel stands at `top` in `epoch`: those who follow in another have missed something.
    pub(in crate::socket) fn observe(&self, epoch: &Arc<str>, top: u64) -> Vec<Rc<Connection>> {
        if *self.epoch.borrow() == *epoch {
            self.top.set(self.top.get().max(top));
            return Vec::new();
        }
        self.epoch.replace(Arc::clone(epoch));
        self.top.set(top);
        self.all_behind(u64::MAX)
    }

    /// Those who follow and have not come as far as `offset`.
    pub(super) fn all_behind(&self, offset: u64) -> Vec<Rc<Connection>> {
        let is_behind = |subscriber: &&Subscriber| matches!(subscriber.standing, Standing::Following(at) if at < offset);
        self.subscribers.borrow().iter().filter(is_behind).map(|subscriber| Rc::clone(&subscriber.connection)).collect()
    }

    /// A frame for all subscribers. Of one alone it is theirs, and they may have it wait longer where there is little room.
    pub(super) fn framed(&self, bytes: Bytes, memory: &Rc<Memory>) -> Frame {
        if let [only] = &self.subscribers.borrow()[..] {
            return only.connection.framed(bytes);
        }
        let claim = memory.claim(bytes.len());
        Frame::new(bytes, claim)
    }

    /// Gives a publication to every subscriber that has not had it; they are written to later. Who has missed one before it is
    /// given back.
    pub(super) fn spread(
        &self,
        epoch: &Arc<str>,
        publication: &Publication,
        frame: &Frame,
        unwritten: &mut Vec<Rc<Connection>>,
    ) -> Vec<Rc<Connection>> {
        let offset = publication.offset;
        let mut behind = if offset > 0 { self.observe(epoch, offset) } else { Vec::new() };
        let has_new_epoch = !behind.is_empty();
        for subscriber in self.subscribers.borrow_mut().iter_mut() {
            match &mut subscriber.standing {
                Standing::Buffering(buffer) => buffer.push(epoch, publication),
                Standing::Listening => subscriber.connection.send_with_others(frame.clone(), unwritten),
                Standing::Following(_) if offset == 0 => subscriber.connection.send_with_others(frame.clone(), unwritten),
                Standing::Following(_) if has_new_epoch => {}
                Standing::Following(at) if offset == *at + 1 => {
                    *at = offset;
                    subscriber.connection.send_with_others(frame.clone(), unwritten);
                }
                Standing::Following(at) if offset > *at => behind.push(Rc::clone(&subscriber.connection)),
                Standing::Following(_) => {}
            }
        }
        behind
    }

    /// Tells of a join or leave those who asked for it.
    pub(super) fn spread_presence(&self, frame: &Frame, unwritten: &mut Vec<Rc<Connection>>) {
        for subscriber in self.subscribers.borrow().iter().filter(|subscriber| subscriber.hears_presence) {
            subscriber.connection.send_with_others(frame.clone(), unwritten);
        }
    }
}
