//! Text into HTML. Everything that is not ours goes through [`escape`].

use std::fmt::Write;

/// Text as it may stand between tags and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A cell of a table. `Html` is ours.
pub(super) enum Cell {
    Text(String),
    Number(String),
    Html(String),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn number(shown: impl Into<String>) -> Self {
        Self::Number(shown.into())
    }
}

/// How a table goes on a narrow screen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrow {
    /// Its columns stay beside each other, and it scrolls by itself.
    Scrolls,
    /// Each row becomes a card, each cell a line that begins with its heading.
    Stacks,
}

/// A table with a caption; the first cell of each row is its heading.
pub(super) fn table(caption: &str, headings: &[&str], rows: &[Vec<Cell>], narrow: Narrow) -> String {
    let class = match narrow {
        Narrow::Scrolls => "scrolls",
        Narrow::Stacks => "stacks",
    };
    let caption = escape(caption);
    let n_columns = headings.len();
    let mut html = format!(
        "<div class=\"{class} columns-{n_columns}\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption><thead><tr>"
    );
    for heading in headings {
        write!(html, "<th scope=\"col\">{}</th>", escape(heading)).expect("writing to a string cannot fail");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (column, (cell, heading)) in row.iter().zip(headings).enumerate() {
            html.push_str(&shown(cell, heading, column));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn shown(cell: &Cell, heading: &str, column: usize) -> String {
    let (content, class) = match cell {
        Cell::Text(text) => (escape(text), ""),
        Cell::Number(text) => (escape(text), " class=\"number\""),
        Cell::Html(html) => (html.clone(), ""),
    };
    let heading = escape(heading);
    match column {
        0 => format!("<th scope=\"row\" data-label=\"{heading}\"{class}>{content}</th>"),
        _ => format!("<td data-label=\"{heading}\"{class}>{content}</td>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_cannot_leave_its_place() {
        let html = table("a<b", &["\"x\""], &[vec![Cell::text("<script>alert('1')</script> & more")]], Narrow::Scrolls);
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; more"), "{html}");
        assert!(html.contains("aria-label=\"a&lt;b\"") && html.contains("data-label=\"&quot;x&quot;\""), "{html}");
    }
}
