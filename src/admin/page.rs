//! The page: one document, with its style and its script, that loads nothing but `/events`.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

pub(super) const PAGE: &str = include_str!("page.html");

/// Style and script are in the page, and no others may run: they are named by their hashes.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside(PAGE, tag))));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
});

/// What is between the first opening and closing tag of this name.
pub(super) fn inside<'a>(page: &'a str, tag: &str) -> &'a str {
    let inner = page
        .split_once(&format!("<{tag}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside));
    inner.unwrap_or_default()
}

pub(super) async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY.as_str())], Html(PAGE)).into_response()
}
