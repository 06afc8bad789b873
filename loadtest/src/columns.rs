//! Tables for people: columns that line up, and numbers as they are read.

/// First column to the left, figures to the right.
pub(crate) fn aligned(cells: &[Vec<String>]) -> Vec<String> {
    let n_columns = cells.first().map_or(0, Vec::len);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..n_columns).map(|column| width(column).unwrap_or(0)).collect();
    cells
        .iter()
        .map(|row| {
            let first = format!("{:<width$}", row[0], width = widths[0]);
            let rest = row.iter().zip(&widths).skip(1);
            rest.fold(first, |line, (cell, width)| format!("{line}  {cell:>width$}"))
        })
        .collect()
}

pub(crate) fn short_ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => grouped(ms),
    }
}

pub(crate) fn dash() -> String {
    "-".to_owned()
}

/// A whole number with thousands set apart: 12,345.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (digit_idx, digit) in digits.chars().enumerate() {
        if digit_idx > 0 && (digits.len() - digit_idx) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shortened() {
        let shown = [0.0, 999.4, 1_000.0, 1_234_567.0].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.1234, 12.34, 1234.5].map(short_ms), ["0.123", "12.3", "1,234"]);
    }
}
