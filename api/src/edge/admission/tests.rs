//! Who gets a place, and who is shed.

use super::*;
use RouteClass::{Bulk, Login, Operator, Read, Write};
use proptest::prelude::*;

fn admission(limit: usize) -> Rc<Admission> {
    Rc::new(Admission {
        in_flight: Default::default(),
        logins_max: 7,
        limit: Cell::new(limit),
        adaptive: None,
        next_turn: Cell::new(None),
        begun: Instant::now(),
        meters: Meters::new("test"),
    })
}

/// As many as get in, at most 10,000.
fn fill(admission: &Rc<Admission>, class: RouteClass) -> Vec<Place> {
    std::iter::from_fn(|| admission.admit(class, Instant::now()).ok()).take(10_000).collect()
}

#[test]
fn a_class_alone_has_nearly_all_places_and_leaves_each_other_its_own() {
    let admission = admission(100);
    let reads = fill(&admission, Read);
    assert_eq!(reads.len(), 80, "100 less 5 of logins, 10 of writes and 5 of bulks");
    assert_eq!([fill(&admission, Write).len(), fill(&admission, Bulk).len(), fill(&admission, Operator).len()], [10, 5, 5]);
    drop(reads);
    assert_eq!(fill(&admission, Write).len(), 80);
}

#[test]
fn operators_have_a_place_however_small_the_limit_is() {
    let admission = admission(1);
    let _read = admission.admit(Read, Instant::now()).unwrap();
    assert_eq!(admission.admit(Write, Instant::now()).unwrap_err(), Reason::InFlight);
    assert_eq!(fill(&admission, Operator).len(), 1);
}

#[test]
fn logins_are_as_many_as_hashes_may_wait() {
    let admission = admission(1_000);
    let logins = fill(&admission, Login);
    assert_eq!(logins.len(), 7);
    assert_eq!(admission.admit(Login, Instant::now()).unwrap_err(), Reason::Class);
    assert!(admission.admit(Read, Instant::now()).is_ok());
}

#[test]
fn those_that_are_shed_in_crowds_are_read_again_one_after_the_other_and_not_too_late() {
    let (admission, now) = (admission(1), Instant::now());
    assert_eq!(admission.next_turn(now), now, "one alone is not put off");
    let turns: Vec<_> = (0..2_000).map(|_| admission.next_turn(now)).collect();
    assert!(turns.is_sorted() && turns[1] > now && turns.iter().all(|turn| *turn <= now + PUT_OFF_MAX + TURNS_EVERY));
    let distinct = turns.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(distinct <= 27, "{distinct} moments of half a second and a bit");
    let later = now + Duration::from_secs(10);
    assert_eq!(admission.next_turn(later), later, "and all is forgotten after a while");
}

proptest! {
    /// Whatever comes and goes, there are never more than the limit and the operators' places, and each class can have its own.
    #[test]
    fn the_limit_holds_and_nobody_is_kept_out(limit in 1_usize..200, steps in prop::collection::vec((0_usize..5, any::<bool>(), 0_usize..64), 0..400)) {
        let admission = admission(limit);
        let mut places: Vec<Place> = Vec::new();
        for (class, comes, which) in steps {
            if comes {
                places.extend(admission.admit(RouteClass::ALL[class], Instant::now()).ok());
            } else if !places.is_empty() {
                let at = which % places.len();
                drop(places.swap_remove(at));
            }
            prop_assert!(places.len() <= limit + admission.own(Operator));
            prop_assert_eq!(admission.in_flight.iter().map(Cell::get).sum::<usize>(), places.len());
            for class in RouteClass::ALL {
                let n = admission.count(class).get();
                prop_assert!(n >= admission.own(class) || admission.refusal(class).is_none() || (class == Login && n >= 7));
            }
        }
    }
}
