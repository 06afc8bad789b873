//! Who gets a place, and who is shed.

use super::*;
use RouteClass::{Bulk, Login, Operator, Read, Write};
use proptest::prelude::*;

fn admission(limit: usize) -> Rc<Admission> {
    Rc::new(Admission {
        in_flight: Default::default(),
        logins_max: 7,
        logins_at_work: Cell::new(0),
        limit: Cell::new(limit),
        adaptive: None,
        next_turn: Cell::new(None),
        busy_at: Cell::new(None),
        begun: Instant::now(),
        meters: Meters::new("test"),
    })
}

/// As many as get in, at most 10,000.
fn fill(admission: &Rc<Admission>, class: RouteClass) -> Vec<Place> {
    std::iter::from_fn(|| admission.admit(class, Instant::now(), false).ok()).take(10_000).collect()
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
    let _read = admission.admit(Read, Instant::now(), false).unwrap();
    assert_eq!(admission.admit(Write, Instant::now(), false).unwrap_err(), Reason::InFlight);
    assert_eq!(fill(&admission, Operator).len(), 1);
}

#[test]
fn logins_at_work_are_as_many_as_hashes_may_wait_and_those_on_their_way_keep_none_out() {
    let admission = admission(1_000);
    let mut logins: Vec<_> = (0..20).map(|_| admission.admit(Login, Instant::now(), false).unwrap()).collect();
    let at_work = logins.iter_mut().filter_map(|login| login.begin_work().ok()).count();
    assert_eq!((at_work, logins[0].begin_work(), logins[7].begin_work()), (7, Ok(()), Err(Reason::Class)));
    assert_eq!(admission.admit(Login, Instant::now(), false).unwrap_err(), Reason::Class);
    assert!(admission.admit(Read, Instant::now(), false).unwrap().begin_work().is_ok());
    logins.remove(0);
    assert!(admission.admit(Login, Instant::now(), false).unwrap().begin_work().is_ok());
}

#[test]
fn who_waits_holds_no_place_and_takes_one_again() {
    let admission = admission(100);
    let mut waiting = fill(&admission, Bulk);
    waiting.iter_mut().for_each(Place::begin_wait);
    let mut at_work = fill(&admission, Bulk);
    assert_eq!((waiting.len(), at_work.len()), (75, 75));
    assert_eq!(waiting[0].begin_work(), Err(Reason::Waited));
    at_work.pop();
    assert_eq!((waiting[0].begin_work(), waiting[0].begin_work(), waiting[1].begin_work()), (Ok(()), Ok(()), Err(Reason::Waited)));
    waiting[0].begin_wait();
    waiting[0].begin_wait();
    assert_eq!(waiting[1].begin_work(), Ok(()));
    drop(at_work);
    assert_eq!(admission.count(Bulk).get(), 1);
    drop(waiting);
    assert_eq!(admission.count(Bulk).get(), 0);
}

#[test]
fn a_login_that_waited_takes_both_its_place_and_its_part_of_the_work() {
    let admission = admission(10);
    let mut logins: Vec<_> = (0..8).map(|_| admission.admit(Login, Instant::now(), false).unwrap()).collect();
    logins.iter_mut().for_each(Place::begin_wait);
    let begun: Vec<_> = logins.iter_mut().map(Place::begin_work).collect();
    assert!(begun[..7].iter().all(Result::is_ok) && begun[7] == Err(Reason::Class));
    assert_eq!((admission.count(Login).get(), admission.logins_at_work.get()), (7, 7));
    logins[0].begin_wait();
    drop(logins);
    assert_eq!((admission.count(Login).get(), admission.logins_at_work.get()), (0, 0));
}

#[test]
fn how_long_a_client_takes_is_not_how_long_the_process_takes() {
    let admission = admission(10);
    let now = Instant::now();
    let mut place = admission.admit(Write, now, false).unwrap();
    place.begin_wait();
    place.waits_since = now.checked_sub(Duration::from_secs(100));
    assert!(place.waits_since.is_some());
    place.begin_work().unwrap();
    assert_eq!(place.took(now + Duration::from_secs(100)), Duration::ZERO);
    let tells = |status| tells_of_the_process(StatusCode::from_u16(status).unwrap());
    assert!([200, 202, 304, 504].into_iter().all(tells), "a deadline that passed is the clearest sign");
    assert!(![400, 401, 404, 429, 500, 503].into_iter().any(tells), "a flood of what is refused would make all else look slow");
}

#[test]
fn requests_that_wait_lower_no_limit() {
    const WAIT: Duration = Duration::from_secs(100);
    let (admission, mut adaptive, begun) = (admission(1_000), Adaptive::new(1_000), Instant::now());
    let limits: Vec<_> = (0..2_000_u32)
        .filter_map(|n| {
            let now = begun + Duration::from_millis(10) * n;
            let mut place = admission.admit(Read, now, false).unwrap();
            // In calm times nobody waits.
            if n > 100 {
                place.begin_wait();
                place.waits_since = Instant::now().checked_sub(WAIT);
                place.begin_work().unwrap();
            }
            let ends = now + Duration::from_millis(1) + if n > 100 { WAIT } else { Duration::ZERO };
            adaptive.learn(Sample { class: Read, took: place.took(ends), in_flight: 1_000 }, ends)
        })
        .collect();
    assert!(!limits.is_empty() && limits.iter().all(|limit| *limit == 1_000), "{limits:?}");
}

#[test]
fn who_was_kept_waiting_has_a_place_when_most_were_free_for_a_moment() {
    let (all, now) = (admission(100), Instant::now());
    let mut reads = fill(&all, Read);
    reads.truncate(5);
    let late = |after: Duration| all.admit(Read, now + after, true);
    assert_eq!(late(Duration::ZERO).unwrap_err(), Reason::Late);
    assert!(all.admit(Read, now, false).is_ok(), "who comes in time has one");
    assert!(late(BUSY_FOR + Duration::from_secs(1)).is_ok());
    drop(reads);
    assert!(late(Duration::ZERO).is_ok(), "and always in an idle process");
}

#[test]
fn those_that_are_shed_in_crowds_are_read_again_one_after_the_other_and_not_too_late() {
    let (admission, now) = (admission(1), Instant::now());
    assert_eq!(admission.next_turn(now), now, "one alone is not put off");
    let turns: Vec<_> = (0..5_000).map(|_| admission.next_turn(now)).collect();
    assert!(turns.is_sorted() && turns[1] > now && turns.iter().all(|turn| *turn <= now + PUT_OFF_MAX + TURNS_EVERY));
    let distinct = turns.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(distinct <= 103, "{distinct} moments of two seconds and a bit");
    let later = now + Duration::from_secs(10);
    assert_eq!(admission.next_turn(later), later, "and all is forgotten after a while");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Comes,
    Waits,
    Works,
    Goes,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![3 => Just(Step::Comes), 1 => Just(Step::Waits), 1 => Just(Step::Works), 1 => Just(Step::Goes)]
}

proptest! {
    /// Whatever comes and goes, there are never more than the limit and the operators' places, and each class can have its own.
    #[test]
    fn the_limit_holds_and_nobody_is_kept_out(limit in 1_usize..200, steps in prop::collection::vec((0_usize..5, step(), 0_usize..64), 0..400)) {
        let admission = admission(limit);
        let mut places: Vec<Place> = Vec::new();
        for (class, step, which) in steps {
            let at = which % places.len().max(1);
            match (step, places.get_mut(at)) {
                (Step::Comes, _) | (_, None) => places.extend(admission.admit(RouteClass::ALL[class], Instant::now(), false).ok()),
                (Step::Waits, Some(place)) => place.begin_wait(),
                (Step::Works, Some(place)) => drop(place.begin_work()),
                (Step::Goes, Some(_)) => drop(places.swap_remove(at)),
            }
            let n_in_flight = places.iter().filter(|place| place.waits_since.is_none()).count();
            prop_assert!(n_in_flight <= limit + admission.own(Operator));
            prop_assert_eq!(admission.in_flight.iter().map(Cell::get).sum::<usize>(), n_in_flight);
            for class in RouteClass::ALL {
                let n = admission.count(class).get();
                prop_assert!(n >= admission.own(class) || admission.refusal(class).is_none() || (class == Login && admission.are_logins_full()));
            }
        }
    }
}
