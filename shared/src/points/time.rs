//! Instants of points: RFC 3339 to microseconds and back. Every point has one, so the usual form is read by hand.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// 1970-01-01 and 10000-01-01.
const FIRST_US: i64 = 0;
const END_US: i64 = 253_402_300_800_000_000;

/// Microseconds since 1970 of an instant within years 1970 to 9999, whatever its offset; finer fractions are cut off.
pub(super) fn parse(text: &str) -> Option<i64> {
    let at_us = usual(text.as_bytes()).or_else(|| any(text))?;
    (FIRST_US..END_US).contains(&at_us).then_some(at_us)
}

/// Of years 1 to 9999.
pub(super) fn to_time(at_us: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000).ok()
}

pub(super) fn to_us(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).expect("years up to 9999 fit")
}

/// `2026-01-02T03:04:05[.123456]Z`; `None` for anything else, which may still be an instant.
fn usual(text: &[u8]) -> Option<i64> {
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| date_time[*at] != *separator) {
        return None;
    }
    let year = digits(&date_time[..4])?;
    let (month, day) = (digits(&date_time[5..7])?, digits(&date_time[8..10])?);
    let (hour, minute, second) = (digits(&date_time[11..13])?, digits(&date_time[14..16])?, digits(&date_time[17..])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction_us = match rest {
        [b'Z'] => 0,
        [b'.', fraction @ .., b'Z'] if (1..=6).contains(&fraction.len()) => {
            digits(fraction)? * 10_i64.pow(6 - u32::try_from(fraction.len()).expect("at most six"))
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + fraction_us)
}

fn any(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).ok()
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Of the Gregorian calendar; years are counted from March, so that the odd day of a leap year is the last of one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert_eq, proptest};
    use rstest::rstest;

    #[rstest]
    #[case("1970-01-01T00:00:00Z", Some(0))]
    #[case("2026-11-21T10:00:00.5Z", Some(1_795_255_200_500_000))]
    #[case("2026-11-21T11:00:00+01:00", Some(1_795_255_200_000_000))]
    #[case("2026-11-21T10:00:00.123456789Z", Some(1_795_255_200_123_456))]
    #[case("9999-12-31T23:59:59.999999Z", Some(END_US - 1))]
    #[case("1969-12-31T23:59:59Z", None)]
    #[case("10000-01-01T00:00:00Z", None)]
    #[case("2026-02-29T00:00:00Z", None)]
    #[case("2026-11-21T24:00:00Z", None)]
    #[case("2026-11-21", None)]
    #[case("2026-11-21T10:00:00", None)]
    #[case("now", None)]
    #[case("", None)]
    fn instants_are_read_or_refused(#[case] text: &str, #[case] at_us: Option<i64>) {
        assert_eq!(parse(text), at_us);
    }

    proptest! {
        #[test]
        fn the_usual_form_is_read_as_the_library_reads_it(at_us in FIRST_US..END_US) {
            let text = to_time(at_us).unwrap().format(&Rfc3339).unwrap();
            prop_assert_eq!(usual(text.as_bytes()), Some(at_us));
            prop_assert_eq!(any(&text), Some(at_us));
            prop_assert_eq!(to_us(to_time(at_us).unwrap()), at_us);
        }
    }
}
