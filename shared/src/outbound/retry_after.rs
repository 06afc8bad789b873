//! `Retry-After`: when a server wants to be asked again.

use hyper::{HeaderMap, header::RETRY_AFTER};
use std::time::Duration;
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

/// Longest that it is heeded.
const LONGEST: Duration = Duration::from_hours(1);

/// What the header says, in seconds or as a date, as far as it is heeded.
pub fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let format = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
            let at = PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
            Duration::try_from(at - now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use rstest::rstest;
    use time::macros::datetime;

    #[rstest]
    #[case::seconds("120", Some(120))]
    #[case::a_date("Sun, 01 Feb 2026 10:00:30 GMT", Some(30))]
    #[case::a_date_that_has_passed("Sun, 01 Feb 2026 09:00:00 GMT", Some(0))]
    #[case::too_long("99999999", Some(3_600))]
    #[case::negative("-1", None)]
    #[case::nonsense("soon", None)]
    fn seconds_and_dates_are_heeded_within_bounds(#[case] text: &'static str, #[case] expected_s: Option<u64>) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
        let now = datetime!(2026-02-01 10:00:00 UTC);
        assert_eq!(retry_after(&headers, now), expected_s.map(Duration::from_secs));
    }
}
