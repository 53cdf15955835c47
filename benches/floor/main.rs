//! The floor of the benchmark: one request in, the same body to every detector, one answer out.
//!
//! actix-web, a hyper-util client per worker and `serde_json`; no policy, limits, log or record.
//! `bench-floor ADDRESS URL…`

use std::io;

use actix_web::{App, HttpResponse, HttpServer, error, web};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

struct Floor {
    client: Client<HttpConnector, Full<Bytes>>,
    detectors: Vec<Uri>,
}

#[derive(Deserialize)]
struct Asked {
    content: String,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    content: &'a str,
    content_type: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Judged {
    label: String,
    score: f64,
}

#[derive(Serialize)]
struct Answer {
    allowed: bool,
    results: Vec<Judged>,
}

async fn orchestrate(floor: web::Data<Floor>, body: Bytes) -> actix_web::Result<HttpResponse> {
    let asked: Asked = serde_json::from_slice(&body)?;
    let outgoing = Outgoing { content: &asked.content, content_type: "text" };
    let shared = Bytes::from(serde_json::to_vec(&outgoing)?);
    let calls = floor.detectors.iter().map(|uri| ask(&floor.client, uri, &shared));
    let results = try_join_all(calls).await?;
    let allowed = results.iter().all(|judged| judged.label == "clean");
    Ok(HttpResponse::Ok().json(Answer { allowed, results }))
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    uri: &Uri,
    body: &Bytes,
) -> actix_web::Result<Judged> {
    let request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.clone()))
        .map_err(error::ErrorBadGateway)?;
    let response = client.request(request).await.map_err(error::ErrorBadGateway)?;
    let reply = response.into_body().collect().await.map_err(error::ErrorBadGateway)?;
    Ok(serde_json::from_slice(&reply.to_bytes())?)
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or_else(|| io::Error::other("no address to listen on"))?;
    let detectors: Vec<Uri> =
        arguments.map(|url| url.parse()).collect::<Result<_, _>>().map_err(io::Error::other)?;
    HttpServer::new(move || {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        App::new()
            .app_data(web::Data::new(Floor { client, detectors: detectors.clone() }))
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .route("/api/v1/orchestrate", web::post().to(orchestrate))
    })
    .workers(1)
    .bind(address)?
    .run()
    .await
}
