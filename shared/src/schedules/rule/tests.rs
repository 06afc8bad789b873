//! The occurrences of rules, through changes of clocks, and what is made up for.

use super::{super::expression::canonical_zone, CAUGHT_UP_MAX, CatchUp, Rule, Turn};
use proptest::prelude::*;
use rstest::rstest;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

const NOW: OffsetDateTime = datetime!(2026-11-21 09:00:00 UTC);

fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

fn after(cron: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
    let rule = Rule::cron(cron, zone, NOW).unwrap();
    rule.occurrences(at(from), NOW).take(n).map(|at| at.format(&Rfc3339).unwrap()).collect()
}

#[rstest]
#[case::weekdays("30 9 * * MON-FRI", "UTC", "2026-11-20T10:00:00Z", &["2026-11-23T09:30:00Z", "2026-11-24T09:30:00Z"])]
#[case::sunday_is_0_and_7("0 0 * * 7", "UTC", "2026-11-20T10:00:00Z", &["2026-11-22T00:00:00Z"])]
#[case::seconds("*/20 * * * * *", "UTC", "2026-11-20T10:00:00.5Z", &["2026-11-20T10:00:20Z", "2026-11-20T10:00:40Z"])]
#[case::nickname("@daily", "UTC", "2026-11-20T10:00:00Z", &["2026-11-21T00:00:00Z"])]
#[case::leap_day("0 0 29 2 *", "UTC", "2026-11-20T10:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"])]
#[case::in_a_zone("0 9 * * *", "Asia/Kolkata", "2026-11-20T10:00:00Z", &["2026-11-21T03:30:00Z"])]
fn an_expression_is_read_on_the_wall_clock(#[case] cron: &str, #[case] zone: &str, #[case] from: &str, #[case] then: &[&str]) {
    assert_eq!(after(cron, zone, from, then.len()), then);
}

#[rstest]
// 29 March 2026, 02:00 to 03:00 does not exist in Berlin.
#[case::the_day_before("30 2 * * *", "2026-03-27T12:00:00Z", &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"])]
#[case::both_halves_of_the_gap("0,30 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"])]
#[case::before_the_gap("0 1 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z"])]
#[case::twice_a_day("15 2,14 * * *", "2026-03-28T12:00:00Z", &["2026-03-28T13:15:00Z", "2026-03-29T01:00:00Z", "2026-03-29T12:15:00Z"])]
#[case::also_after_the_gap("0 2,3 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"])]
#[case::every_half_hour("*/30 * * * *", "2026-03-29T00:15:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"])]
fn in_spring_a_skipped_time_fires_once_after_the_gap(#[case] cron: &str, #[case] from: &str, #[case] then: &[&str]) {
    assert_eq!(after(cron, "Europe/Berlin", from, then.len()), then);
}

#[rstest]
// 25 October 2026, 02:00 to 03:00 comes twice in Berlin.
#[case::fixed("30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"])]
#[case::from_between("30 2 * * *", "2026-10-25T00:45:00Z", &["2026-10-26T01:30:00Z"])]
#[case::twice_in_the_hour("0,30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z"])]
#[case::from_the_second_time("0,30 2 * * *", "2026-10-25T01:10:00Z", &["2026-10-26T01:00:00Z"])]
#[case::every_half_hour("*/30 * * * *", "2026-10-25T00:15:00Z", &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"])]
fn in_autumn_a_repeated_time_fires_once(#[case] cron: &str, #[case] from: &str, #[case] then: &[&str]) {
    assert_eq!(after(cron, "Europe/Berlin", from, then.len()), then);
}

#[rstest]
#[case::no_such_day("0 0 31 2 *", "UTC", "never_fires")]
#[case::no_such_day_of_short_months("0 0 31 4,6,9,11 *", "UTC", "never_fires")]
#[case::not_cron("every day", "UTC", "cron")]
#[case::empty("", "UTC", "cron")]
#[case::four_fields("* * * *", "UTC", "cron")]
#[case::with_a_year("0 0 0 1 1 * 2020", "UTC", "cron")]
#[case::minute_60("60 * * * *", "UTC", "cron")]
#[case::at_reboot("@reboot", "UTC", "cron")]
#[case::no_such_zone("* * * * *", "Europe/Atlantis", "unknown_timezone")]
#[case::no_zone("* * * * *", "", "unknown_timezone")]
#[case::path("* * * * *", "../../etc/passwd", "unknown_timezone")]
fn what_never_fires_or_makes_no_sense_is_refused(#[case] cron: &str, #[case] zone: &str, #[case] code: &str) {
    let error = Rule::cron(cron, zone, NOW).unwrap_err();
    assert_eq!(error.fields.iter().map(|field| field.code.as_str()).collect::<Vec<_>>(), [code], "{error:?}");
}

#[test]
fn zones_are_known_by_their_names_however_they_are_written() {
    assert_eq!(canonical_zone("europe/berlin").unwrap(), "Europe/Berlin");
    assert_eq!(canonical_zone("utc").unwrap(), "UTC");
}

#[test]
fn what_is_rare_is_found_within_fifty_years_and_no_further() {
    let years = |cron: &str| Rule::cron(cron, "UTC", NOW).unwrap().occurrences(NOW, NOW).map(|at| at.year()).collect::<Vec<_>>();
    let leap_mondays = years("0 0 29 2 +MON");
    assert!((1..=2).contains(&leap_mondays.len()) && leap_mondays.iter().all(|year| year - NOW.year() <= 50), "{leap_mondays:?}");
    assert_eq!(years("@yearly").into_iter().take(60).count(), 60, "nothing is looked for");
    assert_eq!(years("0 0 0 1 1 *").last(), Some(&(NOW.year() + 50)), "with seconds");
}

#[test]
fn what_was_missed_is_left_out_but_for_one_that_is_hardly_late() {
    let (rule, due) = (Rule::cron("*/10 * * * *", "UTC", NOW).unwrap(), NOW - Duration::hours(3));
    let turn = |now| rule.turn(due, now, CatchUp::Late(Duration::minutes(1)));
    let next_run_at = Some(NOW + Duration::minutes(10));
    assert_eq!(turn(NOW + Duration::seconds(60)), Turn { fire_at: Some(NOW), next_run_at });
    assert_eq!(turn(NOW + Duration::seconds(61)), Turn { fire_at: None, next_run_at });
}

#[test]
fn what_was_missed_is_made_up_for_one_by_one_up_to_a_limit() {
    let minute = Duration::minutes(1);
    for rule in [Rule::cron("* * * * *", "UTC", NOW).unwrap(), Rule::every(minute)] {
        let turn = rule.turn(NOW - minute * 2, NOW, CatchUp::All);
        assert_eq!(turn, Turn { fire_at: Some(NOW - minute * 2), next_run_at: Some(NOW - minute) });
        let turn = rule.turn(NOW - Duration::weeks(200), NOW, CatchUp::All);
        let n_missed = i32::try_from(CAUGHT_UP_MAX).unwrap();
        assert_eq!(turn, Turn { fire_at: Some(NOW - minute * (n_missed - 1)), next_run_at: Some(NOW - minute * (n_missed - 2)) });
    }
}

#[test]
fn a_period_is_counted_from_its_first_occurrence() {
    let (rule, due) = (Rule::every(Duration::seconds(7)), NOW);
    let late = rule.turn(due, NOW + Duration::seconds(20), CatchUp::Late(Duration::minutes(1)));
    assert_eq!(late, Turn { fire_at: Some(NOW + Duration::seconds(14)), next_run_at: Some(NOW + Duration::seconds(21)) });
    assert_eq!(rule.after(NOW - Duration::seconds(1), due), Some(NOW), "the first one is yet to come");
}

proptest! {
    #[test]
    fn occurrences_come_in_order_and_are_found_again_from_behind(
        (cron, zone) in (
            prop::sample::select(vec!["*/7 * * * *", "30 2 * * *", "0 0 * * *", "15 1-3 * * SUN", "0 12 1 * *", "5 */2 * 3,10 *", "10,40 1,2,3 * * *"]),
            prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"]),
        ),
        offset_s in 0i64..94_608_000,
    ) {
        let rule = Rule::cron(cron, zone, NOW).unwrap();
        let from = NOW + Duration::seconds(offset_s);
        let mut last = from;
        for next in rule.occurrences(from, NOW).take(5) {
            prop_assert!(next > last);
            let turn = rule.turn(next, next + Duration::milliseconds(3), CatchUp::Late(Duration::minutes(1)));
            prop_assert_eq!(turn.fire_at, Some(next));
            prop_assert!(turn.next_run_at > Some(next));
            last = next;
        }
    }
}
