//! The bytes of large bodies that the process holds at once, over all requests: a crowd of bulk requests is sent away
//! before it fills the memory. Small bodies that come with their heads are bounded by the requests in flight and cost nothing here; those that
//! are on their way are not in flight, and are bounded by what they hold of this. Nobody has all of it: who sends much, and slowly, leaves room
//! for others; and strangers, who may be many, have a part of their own.

use crate::edge::RequestScope;
use actix_web::{HttpMessage, HttpRequest};
use shared::{
    Code, Error, Result,
    accounts::Proof,
    limits::Principal,
    shares::{Share, Shares},
    telemetry::metrics::HTTP_SHED,
};
use std::{sync::Arc, time::Duration};

/// Bodies up to this size are free.
const FREE_BYTES: usize = 16 << 10;
/// What a body on its way counts as at least: its request is there meanwhile, with all that was made for it.
const ON_ITS_WAY_BYTES: usize = 4 << 10;
/// What strangers have together, as a part of what users have: besides, so that they take nothing from these.
const STRANGERS: usize = 4;

/// Whose body it is.
pub(super) fn holder(request: &HttpRequest) -> Principal {
    match request.extensions().get::<Proof>() {
        Some(proof) => Principal::User(proof.caller.user_id),
        None => Principal::Address(RequestScope::from_request(request).address).counted(),
    }
}

/// Shared by all threads of the process.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    of_users: Arc<Shares<Principal>>,
    of_strangers: Arc<Shares<Principal>>,
}

impl BodyBudget {
    /// So many bytes, of bodies of up to `largest`, or `largest_of_strangers`.
    pub fn new(bytes: usize, largest: usize, largest_of_strangers: usize) -> Self {
        let of_strangers = (bytes / STRANGERS).max(largest_of_strangers);
        Self { of_users: Shares::of_parts_up_to(bytes, largest), of_strangers: Shares::of_parts_up_to(of_strangers, largest_of_strangers) }
    }

    /// Refuses at once a body whose announced length does not fit at the moment.
    pub(super) fn open(&self, holder: Principal, announced: Option<usize>) -> Result<Reservation> {
        let shares = match holder {
            Principal::User(_) => &self.of_users,
            Principal::Address(_) | Principal::Account(_) => &self.of_strangers,
        };
        if announced.is_some_and(|bytes| bytes > FREE_BYTES && !shares.has_room(&holder, bytes)) {
            return Err(exhausted());
        }
        Ok(Reservation { shares: Arc::clone(shares), holder, announced, held: None })
    }
}

/// What one body holds of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    shares: Arc<Shares<Principal>>,
    holder: Principal,
    announced: Option<usize>,
    held: Option<Share<Principal>>,
}

impl Reservation {
    /// Makes sure that `bytes` are covered. It grows with what has arrived, so that a client that only announces much holds nothing.
    pub(super) fn cover(&mut self, bytes: usize) -> Result<()> {
        if bytes <= FREE_BYTES { Ok(()) } else { self.hold(bytes) }
    }

    /// The body is on its way, and is no longer bounded by the requests in flight: what would be free is held.
    pub(super) fn cover_wait(&mut self) -> Result<()> {
        match self.held {
            Some(_) => Ok(()),
            None => self.hold(self.announced.unwrap_or(FREE_BYTES).clamp(ON_ITS_WAY_BYTES, FREE_BYTES)),
        }
    }

    fn hold(&mut self, bytes: usize) -> Result<()> {
        let is_covered = match &mut self.held {
            Some(held) => held.grow(bytes.saturating_sub(held.n())),
            None => {
                self.held = self.shares.take(self.holder, bytes);
                self.held.is_some()
            }
        };
        if is_covered { Ok(()) } else { Err(exhausted()) }
    }
}

fn exhausted() -> Error {
    metrics::counter!(HTTP_SHED, "reason" => "bodies").increment(1);
    Error::new(Code::Overloaded, "Too many bodies are on their way, or too large ones.")
        .retry_after(Duration::from_secs(rand::random_range(1..=3)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::UserId;
    use std::net::{IpAddr, Ipv4Addr};

    const KIB: usize = 1 << 10;

    #[test]
    fn bodies_share_the_budget_and_give_it_back() {
        let (budget, holder) = (BodyBudget::new(100 * KIB, 100 * KIB, 100 * KIB), Principal::User(UserId::new()));
        let mut first = budget.open(holder, None).unwrap();
        first.cover(60 * KIB).unwrap();
        first.cover(80 * KIB).unwrap();
        assert!(budget.open(holder, Some(30 * KIB)).is_err(), "an announced body that cannot fit is refused before it is read");
        let mut second = budget.open(holder, None).unwrap();
        second.cover(FREE_BYTES).unwrap();
        assert!(second.cover(30 * KIB).is_err());
        drop(first);
        second.cover(30 * KIB).unwrap();
    }

    #[test]
    fn a_body_on_its_way_holds_what_it_may_grow_to_for_free() {
        let (budget, holder) = (BodyBudget::new(32 * KIB, 16 * KIB, 16 * KIB), Principal::User(UserId::new()));
        let waiting = |announced| {
            let mut body = budget.open(holder, announced).unwrap();
            body.cover_wait().map(|()| body)
        };
        let mut bodies = vec![waiting(Some(1)).unwrap(), waiting(Some(8 * KIB)).unwrap()];
        assert!(waiting(None).is_err(), "16 KiB are more than are left for one who has this much");
        bodies[1].cover(8 * KIB).unwrap();
        bodies[0].cover_wait().unwrap();
        assert_eq!(bodies.iter().map(|body| body.held.as_ref().unwrap().n()).sum::<usize>(), 12 * KIB);
        bodies.push(waiting(Some(4 * KIB)).unwrap());
        drop(bodies);
        assert!(waiting(Some(20 * KIB)).is_ok());
    }

    #[test]
    fn neither_strangers_nor_one_user_keep_others_out() {
        let budget = BodyBudget::new(400 * KIB, 20 * KIB, 20 * KIB);
        let fill = |holder| {
            let bodies = std::iter::from_fn(|| {
                let mut body = budget.open(holder, None).ok()?;
                body.cover(20 * KIB).ok().map(|()| body)
            });
            bodies.collect::<Vec<_>>()
        };
        let strangers: Vec<_> = (1..=10).flat_map(|n| fill(Principal::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))))).collect();
        let (greedy, modest) = (fill(Principal::User(UserId::new())), fill(Principal::User(UserId::new())));
        assert_eq!((strangers.len(), greedy.len(), modest.len()), (5, 15, 5));
    }
}
