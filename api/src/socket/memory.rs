//! The memory that frames take which wait on one thread for their sockets: so much in all, and nobody's frames in the way of all others'
//! (docs/adr/0032). A thread counts its own, so that nothing of this is shared.
//!
//! A frame that goes to many sockets is one buffer, and counts once for as long as any of them keeps it.

use shared::shares::{PARTS, may_be_taken};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
};

/// A thread has room for so much, however many there are: the largest answers have to fit, also into what is kept for those who have little.
const THREAD_BYTES_LEAST: usize = 8 << 20;
/// What a frame takes besides its bytes: its place in the outbox, its claim, and what the allocator adds to each.
const BESIDE_BYTES: usize = 128;

/// That of one thread.
#[derive(Debug)]
pub(super) struct Memory {
    max: usize,
    taken: Cell<usize>,
    holdings: RefCell<HashMap<Arc<str>, Weak<Holding>>>,
}

/// What frames take that were made for the sockets of one user.
#[derive(Debug)]
pub(super) struct Holding {
    memory: Rc<Memory>,
    user: Arc<str>,
    taken: Cell<usize>,
}

/// What one frame takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    memory: Rc<Memory>,
    /// `None` for what goes to many.
    holding: Option<Rc<Holding>>,
    n_bytes: usize,
}

impl Memory {
    /// The part that each of `n_threads` has of what the process may take.
    pub(super) fn of_thread(process_max: usize, n_threads: usize) -> Rc<Self> {
        Self::up_to((process_max / n_threads).max(THREAD_BYTES_LEAST))
    }

    fn up_to(max: usize) -> Rc<Self> {
        Rc::new(Self { max, taken: Cell::new(0), holdings: RefCell::default() })
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Those who are nobody in particular are one.
    pub(super) fn holding(self: &Rc<Self>, user: &Arc<str>) -> Rc<Holding> {
        let mut holdings = self.holdings.borrow_mut();
        if let Some(known) = holdings.get(user).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Rc::new(Holding { memory: Rc::clone(self), user: Arc::clone(user), taken: Cell::new(0) });
        holdings.insert(Arc::clone(user), Rc::downgrade(&fresh));
        fresh
    }

    /// For a frame that goes to many.
    pub(super) fn claim(self: &Rc<Self>, frame_len: usize) -> Rc<Claim> {
        Claim::new(self, None, frame_len)
    }

    /// What goes to many is nobody's, and has nothing of what is kept.
    fn has_room(&self, holding: Option<&Holding>, n_more: usize) -> bool {
        let of_holder = holding.map_or(usize::MAX, |holding| holding.taken.get() + n_more);
        may_be_taken(self.max, self.max / PARTS, self.taken.get() + n_more, of_holder)
    }
}

impl Holding {
    /// For a frame that goes to a socket of the user's alone.
    pub(super) fn claim(self: &Rc<Self>, frame_len: usize) -> Rc<Claim> {
        Claim::new(&self.memory, Some(Rc::clone(self)), frame_len)
    }

    pub(super) fn has_room(&self, frame_len: usize) -> bool {
        self.memory.has_room(Some(self), frame_len + BESIDE_BYTES)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.memory.holdings.borrow_mut().remove(&self.user);
    }
}

impl Claim {
    /// The frame is there already, so it counts; whether it may stay is for [`fits`](Self::fits) to say.
    fn new(memory: &Rc<Memory>, holding: Option<Rc<Holding>>, frame_len: usize) -> Rc<Self> {
        let n_bytes = frame_len + BESIDE_BYTES;
        memory.taken.update(|taken| taken + n_bytes);
        if let Some(holding) = &holding {
            holding.taken.update(|taken| taken + n_bytes);
        }
        Rc::new(Self { memory: Rc::clone(memory), holding, n_bytes })
    }

    /// Whether there is room for the frame to wait, among all that does.
    pub(super) fn fits(&self) -> bool {
        self.memory.has_room(self.holding.as_deref(), 0)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory.taken.update(|taken| taken - self.n_bytes);
        if let Some(holding) = &self.holding {
            holding.taken.update(|taken| taken - self.n_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1_000 - BESIDE_BYTES;

    /// Makes claims until one does not fit.
    fn take_all(claim: impl Fn() -> Rc<Claim>) -> Vec<Rc<Claim>> {
        std::iter::from_fn(|| Some(claim()).filter(|claim| claim.fits())).collect()
    }

    #[test]
    fn the_last_quarter_is_for_those_who_have_little() {
        let memory = Memory::up_to(100_000);
        let [ada, bob, eve] = ["ada", "bob", ""].map(|user| memory.holding(&user.into()));
        let adas = take_all(|| ada.claim(LEN));
        assert_eq!((adas.len(), ada.has_room(LEN), bob.has_room(LEN)), (75, false, true));
        assert!(!memory.claim(LEN).fits(), "what goes to many is not kept for");
        let bobs = take_all(|| bob.claim(LEN));
        assert_eq!((bobs.len(), eve.has_room(LEN)), (25, false));
        drop(adas);
        assert!(ada.has_room(LEN) && eve.has_room(LEN));
        drop(bobs);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn a_frame_that_goes_to_many_counts_once_and_until_the_last_lets_it_go() {
        let memory = Memory::up_to(100_000);
        let claim = memory.claim(LEN);
        let copies = vec![Rc::clone(&claim); 1_000];
        drop(claim);
        assert_eq!(memory.taken(), 1_000);
        drop(copies);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn a_user_is_one_whatever_the_number_of_sockets_and_forgotten_with_the_last() {
        let memory = Memory::up_to(100_000);
        let (first, second) = (memory.holding(&"ada".into()), memory.holding(&"ada".into()));
        assert!(Rc::ptr_eq(&first, &second));
        let claim = first.claim(LEN);
        drop((first, second));
        assert!(Rc::ptr_eq(claim.holding.as_ref().unwrap(), &memory.holding(&"ada".into())), "while something of theirs waits");
        drop(claim);
        assert!(memory.holdings.borrow().is_empty());
    }

    #[test]
    fn a_thread_has_room_for_large_answers_however_many_threads_there_are() {
        assert_eq!(Memory::of_thread(256 << 20, 4).max, 64 << 20);
        assert_eq!(Memory::of_thread(1, 64).max, THREAD_BYTES_LEAST);
    }
}
