//! Claim B-09: one worker that answers from what it holds, beside the same worker that reads and
//! parses its files in the handler, as blocking calls on its only thread. Nothing else differs.
//!
//!     bench-reads LISTEN FOLDER...
//!
//! `/held` and `/read` answer with the number of keys in every YAML file of the folders.

use std::io::Error;
use std::path::PathBuf;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Files {
    paths: Vec<PathBuf>,
    held: Vec<Value>,
}

fn parse(path: &PathBuf) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path)?;
    serde_saphyr::from_str(&text).map_err(Error::other)
}

fn answer(documents: &[Value]) -> HttpResponse {
    let keys: usize = documents.iter().map(|one| one.as_object().map_or(0, |map| map.len())).sum();
    HttpResponse::Ok().json(serde_json::json!({ "files": documents.len(), "keys": keys }))
}

async fn held(files: web::Data<Files>) -> HttpResponse {
    answer(&files.held)
}

async fn read(files: web::Data<Files>) -> Result<HttpResponse, Error> {
    let documents: Vec<Value> = files.paths.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(answer(&documents))
}

#[actix_web::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or_else(|| Error::other("LISTEN FOLDER..."))?;
    let mut paths = Vec::new();
    for folder in arguments {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "yaml") {
                paths.push(path);
            }
        }
    }
    let held = paths.iter().map(parse).collect::<Result<_, _>>()?;
    let files = web::Data::new(Files { paths, held });
    HttpServer::new(move || {
        App::new()
            .app_data(files.clone())
            .route("/held", web::get().to(self::held))
            .route("/read", web::get().to(read))
    })
    .workers(1)
    .bind(listen)?
    .run()
    .await
}
