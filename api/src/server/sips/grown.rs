//! Connections that have had a large body: what their buffers grew to they keep, ten times what others do, for as long as they live. So
//! there may be so many of them, and the answers of more end their connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

#[derive(Debug)]
pub struct Grown {
    n: AtomicUsize,
    max: usize,
}

impl Grown {
    pub(in crate::server) fn up_to(max: usize) -> Arc<Self> {
        Arc::new(Self { n: AtomicUsize::new(0), max })
    }

    pub(super) fn one_more(self: &Arc<Self>) -> OneGrown {
        self.n.fetch_add(1, Ordering::Relaxed);
        OneGrown(Arc::clone(self))
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct OneGrown(Arc<Grown>);

impl OneGrown {
    pub(super) fn is_one_too_many(&self) -> bool {
        self.0.n.load(Ordering::Relaxed) > self.0.max
    }
}

impl Drop for OneGrown {
    fn drop(&mut self) {
        self.0.n.fetch_sub(1, Ordering::Relaxed);
    }
}
