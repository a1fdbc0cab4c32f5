//! The page, its scripts and styles: part of the program, so that there is nothing to install.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// One file of the page.
pub(super) struct Page {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

impl Page {
    pub(super) fn answer(&'static self) -> Response {
        ([(CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! pages {
    ($($path:literal $kind:ident $file:literal;)*) => {
        pub(super) const ALL: &[Page] = &[$(Page {
            path: $path,
            kind: $kind,
            text: include_str!(concat!("assets/", $file)),
        }),*];
    };
}

const SVG: &str = "image/svg+xml";

pages! {
    "/" HTML "index.html";
    "/console.css" CSS "console.css";
    "/icon.svg" SVG "icon.svg";
    "/console.js" JS "console.js";
    "/dom.js" JS "dom.js";
    "/ring.js" JS "ring.js";
    "/cluster.js" JS "cluster.js";
    "/keyspaces.js" JS "keyspaces.js";
    "/merges.js" JS "merges.js";
    "/modules.js" JS "modules.js";
    "/explain.js" JS "explain.js";
    "/letters.js" JS "letters.js";
}
