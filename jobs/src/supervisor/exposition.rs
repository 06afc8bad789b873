//! Several children's metrics as one page: what adds up is added up, what belongs to a process gets the child as a label.

use std::collections::BTreeMap;

/// One metric: its `# HELP` and `# TYPE` lines, and its samples in the order they came.
#[derive(Debug, Default)]
struct Family {
    comments: Vec<String>,
    order: Vec<String>,
    samples: BTreeMap<String, f64>,
}

/// Merges `(child index, Prometheus text)`.
pub(super) fn merge(texts: &[(usize, String)]) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (index, text) in texts {
        let mut current = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                current = comment.split(' ').nth(1).unwrap_or_default().to_owned();
                let comments = &mut families.entry(current.clone()).or_default().comments;
                if !comments.iter().any(|known| known == line) {
                    comments.push(line.to_owned());
                }
                continue;
            }
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            families.entry(current.clone()).or_default().add(&current, series, value, *index);
        }
    }
    render(&families)
}

impl Family {
    fn add(&mut self, name: &str, series: &str, value: f64, index: usize) {
        let series = if name.starts_with("process_") { with_label(series, index) } else { series.to_owned() };
        match self.samples.get_mut(&series) {
            // The latest moment is the one that matters; all else is a count.
            Some(sum) if name.ends_with("_timestamp_seconds") => *sum = sum.max(value),
            Some(sum) => *sum += value,
            None => {
                self.order.push(series.clone());
                self.samples.insert(series, value);
            }
        }
    }
}

fn with_label(series: &str, index: usize) -> String {
    match series.strip_suffix('}') {
        Some(labelled) => format!("{labelled},child=\"{index}\"}}"),
        None => format!("{series}{{child=\"{index}\"}}"),
    }
}

fn render(families: &BTreeMap<String, Family>) -> String {
    let mut page = String::new();
    for family in families.values() {
        for line in &family.comments {
            page.push_str(line);
            page.push('\n');
        }
        for series in &family.order {
            page.push_str(&format!("{series} {}\n", family.samples[series]));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn counts_add_up_moments_do_not_and_processes_stay_apart() {
        let one = "# TYPE job_finished_total counter\njob_finished_total{queue=\"a b\"} 3\n\n# TYPE job_last_processed_timestamp_seconds gauge\njob_last_processed_timestamp_seconds 10\n# TYPE process_open_fds gauge\nprocess_open_fds 7\n";
        let two = one.replace(" 3", " 4").replace(" 10", " 20");
        let page = merge(&[(0, one.to_owned()), (1, two)]);
        assert!(page.contains("job_finished_total{queue=\"a b\"} 7\n"), "{page}");
        assert!(page.contains("job_last_processed_timestamp_seconds 20\n"), "{page}");
        assert!(page.contains("process_open_fds{child=\"0\"} 7\nprocess_open_fds{child=\"1\"} 7\n"), "{page}");
        assert_eq!(page.matches("# TYPE job_finished_total").count(), 1);
    }
}
