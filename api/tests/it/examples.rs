//! Pages for people in development.

use crate::support::{TestApp, send_for_problem};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

/// The text of the one element of this name.
fn inline<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<{name}>")).unwrap();
    let (text, rest) = rest.split_once(&format!("</{name}>")).unwrap();
    assert!(!rest.contains(&format!("<{name}")), "there is one {name}");
    text
}

const PAGES: [&str; 2] = ["/examples/chat", "/examples/live"];

#[tokio::test]
async fn a_page_has_all_it_needs_and_lets_nothing_else_run() {
    let app = TestApp::start().await;
    for path in PAGES {
        check_page(app.get(path).send().await.unwrap()).await;
    }
}

async fn check_page(response: reqwest::Response) {
    assert_eq!(response.status(), 200);
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let page = response.text().await.unwrap();
    for name in ["script", "style"] {
        let hash = BASE64_STANDARD.encode(Sha256::digest(inline(&page, name)));
        assert!(policy.contains(&format!("{name}-src 'sha256-{hash}';")), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.contains("{{") && !page.contains("https://") && !page.contains("src="), "the page loads nothing from elsewhere");
}

#[tokio::test]
async fn outside_development_there_are_no_pages() {
    // Only development makes signing keys by itself.
    let app = TestApp::start().await.sibling(&[("APP_PROFILE", "production")]).await;
    for path in PAGES {
        assert_eq!(send_for_problem(app.get(path)).await, (404, "not_found".into()), "{path}");
    }
}
