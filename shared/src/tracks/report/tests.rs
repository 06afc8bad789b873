//! What a report looks like, and what it may be of. Reports by jobs are tested with the worker.

use super::{chart::short, figures::Figures, run::Named, *};
use crate::points::HourRow;
use rstest::rstest;
use serde_json::{Value, json};
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:30 UTC);

fn asked(payload: Value) -> Result<ReportTracks> {
    let asked: ReportTracks = serde_json::from_value(payload).unwrap();
    asked.check(NOW).map(|()| asked)
}

fn row(start: OffsetDateTime, count: i64) -> HourRow {
    let (speed_count, speed_sum, speed_min, speed_max) = (Some(count), Some(count as f64 * 5.0), Some(1.0), Some(10.5));
    let bbox = [Some(13.0), Some(52.0), Some(13.1), Some(52.1)];
    let [west, south, east, north] = bbox;
    let (count, distance_m) = (Some(count), Some(1_234.5));
    HourRow { start, count, speed_count, speed_sum, speed_min, speed_max, distance_m, west, south, east, north }
}

fn track(name: &str) -> Named {
    Named { id: TrackId(Uuid::from_u128(7)), name: name.to_owned() }
}

#[rstest]
#[case::hours(json!({"from": "2026-11-21T10:30:00Z"}), 3)]
#[case::days(json!({"from": "2026-11-01T10:30:00Z", "to": "2026-11-03T00:00:00Z", "bucket": "day"}), 2)]
#[case::yesterday(json!({"last_buckets": 1, "bucket": "day"}), 1)]
#[case::last_hours(json!({"last_buckets": 24}), 24)]
#[case::other_zone(json!({"from": "2026-11-21T13:00:00+02:00", "to": "2026-11-21T12:00:00Z"}), 1)]
fn a_report_is_of_whole_buckets(#[case] payload: Value, #[case] n_buckets: i64) {
    let span = asked(payload).unwrap().span(NOW).unwrap();
    assert_eq!(span.n_buckets(), n_buckets);
    assert_eq!(span.index_of(span.start_of(span.to - Duration::MICROSECOND)), n_buckets - 1);
}

#[rstest]
#[case::backwards(json!({"from": "2026-11-21T10:00:00Z", "to": "2026-11-21T09:00:00Z"}), "/payload/from")]
#[case::of_no_time(json!({}), "/payload/from")]
#[case::of_two_times(json!({"from": "2026-11-21T10:00:00Z", "last_buckets": 1}), "/payload/last_buckets")]
#[case::until_when(json!({"to": "2026-11-21T10:00:00Z", "last_buckets": 1}), "/payload/to")]
#[case::of_no_beginning(json!({"to": "2026-11-21T10:00:00Z"}), "/payload/from")]
#[case::nothing(json!({"last_buckets": 0}), "/payload/last_buckets")]
#[case::too_many(json!({"last_buckets": 4_000_000_000_u32, "bucket": "day"}), "/payload/last_buckets")]
#[case::to_come(json!({"from": "2027-01-01T00:00:00Z"}), "/payload/from")]
#[case::too_long(json!({"from": "2020-01-01T00:00:00Z"}), "/payload/from")]
#[case::before_time(json!({"from": "1969-01-01T00:00:00Z", "to": "1969-01-02T00:00:00Z"}), "/payload/from")]
#[case::behind_time(json!({"from": "9999-12-31T23:00:00-05:00", "to": "9999-12-31T23:59:00-05:00"}), "/payload/from")]
#[case::no_tracks(json!({"from": "2026-11-21T10:00:00Z", "track_ids": []}), "/payload/track_ids")]
#[case::name_of_two_lines(json!({"from": "2026-11-21T10:00:00Z", "name": "a\nb"}), "/payload/name")]
fn what_a_report_cannot_be_of_is_refused(#[case] payload: Value, #[case] pointer: &str) {
    assert_eq!(asked(payload).unwrap_err().fields[0].pointer, pointer);
}

#[rstest]
#[case(json!({}), "tracks-2026-11-20-2026-11-21.csv")]
#[case(json!({"name": "buses"}), "buses.csv")]
#[case(json!({"name": "buses.csv"}), "buses.csv")]
#[case(json!({"name": "buses.HTML"}), "buses.csv")]
#[case(json!({"name": "buses.csv", "format": "html"}), "buses.html")]
#[case(json!({"name": "buses.v2"}), "buses.v2.csv")]
#[case(json!({"name": " .csv"}), "tracks-2026-11-20-2026-11-21.csv")]
fn a_file_has_one_ending(#[case] mut payload: Value, #[case] name: &str) {
    payload["last_buckets"] = json!(1);
    payload["bucket"] = json!("day");
    let asked = asked(payload).unwrap();
    assert_eq!(asked.file_name(asked.span(NOW).unwrap()), name);
}

#[test]
fn days_are_called_by_their_date_and_one_alone_is_seen() {
    for (bucket, label, title) in [
        ("day", ">2026-11-20</text>", "<title>2026-11-20 · 3600 points"),
        ("hour", ">2026-11-21 11:00</text>", "<title>2026-11-21 11:00 · 3600 points"),
    ] {
        let span = asked(json!({"last_buckets": 1, "bucket": bucket})).unwrap().span(NOW).unwrap();
        let mut figures = Figures::new(span);
        figures.add(&track("a"), &[row(span.from, 3_600)]);
        let html = page::render(&figures, NOW);
        assert!(html.contains(label) && html.contains(title), "{html}");
        assert_eq!(html.matches("<circle").count(), 2, "the average and the fastest: {html}");
    }
}

#[test]
fn the_last_buckets_are_whole_ones() {
    let span = asked(json!({"last_buckets": 2, "bucket": "day"})).unwrap().span(NOW).unwrap();
    assert_eq!((span.from, span.to), (datetime!(2026-11-19 00:00 UTC), datetime!(2026-11-21 00:00 UTC)));
}

#[test]
fn long_times_are_drawn_in_few_columns_and_nothing_is_lost() {
    let asked = asked(json!({"from": "2026-01-01T00:00:00Z"})).unwrap();
    let span = asked.span(NOW).unwrap();
    let mut figures = Figures::new(span);
    let rows: Vec<HourRow> = (0..span.n_buckets()).map(|n| row(span.from + Duration::HOUR * i32::try_from(n).unwrap(), 1)).collect();
    figures.add(&track("a"), &rows);
    let n_points = span.n_buckets();
    assert!(figures.columns.len() <= 240 && figures.tracks[0].sparks.len() <= 48);
    assert_eq!(figures.columns.iter().map(|column| column.count).sum::<i64>(), n_points);
    assert_eq!(figures.tracks[0].sparks.iter().sum::<f64>(), n_points as f64);
    assert_eq!((figures.total.count, figures.total.speed_avg()), (n_points, Some(5.0)));
    assert_eq!(figures.starts().next(), Some(span.from));
    assert!(figures.starts().last().unwrap() < NOW);
}

#[test]
fn names_of_others_are_text_and_nothing_else() {
    let span = asked(json!({"from": "2026-11-21T10:00:00Z"})).unwrap().span(NOW).unwrap();
    let nasty = r#"<script>alert("1")</script>' onload=&"#;
    let mut figures = Figures::new(span);
    figures.add(&track(nasty), &[row(datetime!(2026-11-21 10:00 UTC), 3_600)]);
    let html = page::render(&figures, NOW);
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; onload=&amp;"), "{html}");
    assert!(!html.contains("<script") && html.contains("default-src 'none'") && !html.contains("unsafe"), "{html}");
    assert!(html.contains("3,600") && html.contains("<title>2026-11-21 10:00 · 3600 points</title>"), "{html}");
    for (name, shown) in [("=HYPERLINK(\"x\")", "'=HYPERLINK"), ("+1", "'+1"), ("\n=1", "'\n=1"), ("Bus 7, east", "\"Bus 7, east\"")] {
        let rows = table::rows(&track(name), &[row(datetime!(2026-11-21 10:00 UTC), 2)]).unwrap();
        assert!(String::from_utf8(rows).unwrap().contains(shown), "{name}");
    }
}

#[test]
fn a_table_has_a_row_for_each_bucket() {
    let mut rows = vec![row(datetime!(2026-11-21 10:00 UTC), 2)];
    rows[0].speed_count = Some(0);
    let table = [table::header().unwrap(), table::rows(&track("Bus 7"), &rows).unwrap()].concat();
    insta::assert_snapshot!(String::from_utf8(table).unwrap(), @r"
    track_id,track_name,start,count,min_speed_mps,max_speed_mps,avg_speed_mps,distance_m,west,south,east,north
    00000000-0000-0000-0000-000000000007,Bus 7,2026-11-21T10:00:00Z,2,1,10.5,,1234.5,13,52,13.1,52.1
    ");
}

#[test]
fn names_with_numbers_are_in_the_order_of_those() {
    let mut names = ["Bus 10", "Bus 2", "Bus", "7", "Bus 99999999999999999999999", "Ärger 1", ""];
    names.sort_by_key(|name| run::by_number(name));
    assert_eq!(names, ["", "7", "Bus", "Bus 2", "Bus 10", "Bus 99999999999999999999999", "Ärger 1"]);
}

#[test]
fn a_page_of_nothing_is_a_page() {
    let span = asked(json!({"from": "2026-11-21T10:00:00Z"})).unwrap().span(NOW).unwrap();
    let html = page::render(&Figures::new(span), NOW);
    assert!(html.contains("0 of 0") && !html.contains("NaN") && !html.contains("inf"), "{html}");
}

#[rstest]
#[case(0.0, "0")]
#[case(0.25, "0.25")]
#[case(12.34, "12.3")]
#[case(3_600.0, "3600")]
#[case(12_345.0, "12.3k")]
#[case(1_000_000.0, "1M")]
#[case(2.5e9, "2.5G")]
fn numbers_are_short(#[case] value: f64, #[case] text: &str) {
    assert_eq!(short(value), text);
}
