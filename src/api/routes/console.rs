//! The web console: static files inside the binary. They hold no data; the page asks the API for it,
//! with the key that its reader signs in with.

use actix_web::http::header::{HeaderValue, IF_NONE_MATCH};
use actix_web::web::{Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::Embed;

use super::{Answer, looked_at, nowhere, resource};
use crate::api::caller::{NoQuery, query};

#[derive(Embed)]
#[folder = "console/"]
struct Files;

/// Scripts and styles of this origin alone, none of them inline, and nobody may frame the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource("/console").route(looked_at().to(to_console)));
    config.service(resource("/console/{file:.*}").route(looked_at().to(file)));
}

async fn to_console(http: HttpRequest) -> Answer {
    query::<NoQuery>(&http)?;
    Ok(HttpResponse::Found().insert_header(("location", "/console/")).finish())
}

/// A browser keeps a file and asks each time whether it is still the same.
async fn file(http: HttpRequest, path: Path<String>) -> Answer {
    query::<NoQuery>(&http)?;
    let name = if path.is_empty() { "index.html" } else { path.as_str() };
    let (Some(file), Some(kind)) = (Files::get(name), kind(name)) else {
        return nowhere(http).await;
    };
    let tag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let known = http.headers().get_all(IF_NONE_MATCH).any(|tags| names(tags, &tag));
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .content_type(kind)
        .insert_header(("etag", tag))
        .insert_header(("cache-control", "no-cache"))
        .insert_header(("content-security-policy", CONTENT_SECURITY_POLICY))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"));
    Ok(if known { answer.finish() } else { answer.body(file.data.into_owned()) })
}

fn names(tags: &HeaderValue, tag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|one| one.strip_prefix("W/").unwrap_or(one)).any(|one| one == tag || one == "*")
}

/// What a file is; other files are not served.
fn kind(name: &str) -> Option<&'static str> {
    match name.rsplit('.').next()? {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}
