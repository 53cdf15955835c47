//! Routes, wire types, status codes. Nothing here decides; handlers end in `orchestrator::run`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web;

use crate::admission::Admission;
use crate::auth::Gate;
use crate::orchestrator::Deps;
use crate::snapshot::Live;
use crate::telemetry::Telemetry;

pub mod access;
mod admit;
mod body;
mod caller;
mod connections;
mod constraints;
mod docs;
mod edge;
mod envelope;
mod framing;
mod held;
mod lines;
mod problem;
mod routes;
mod stream;
mod strict;
mod turns;
pub mod wire;

pub use access::guard;
pub use connections::Connections;
pub use docs::openapi;
pub use edge::{edge, root_span};
pub use stream::Stream;
pub use turns::Turns;

pub use routes::keys::{KeyRequest, KeyView};
pub use routes::policies::check::{Asked, evaluated};
pub use routes::policies::{Resolved, resolved};

/// Everything the routes work with.
pub struct Api {
    /// What orchestrations work with.
    pub deps: Arc<Deps>,
    /// The live state; read once per request.
    pub live: Arc<Live>,
    /// The log; `None` says nothing.
    pub log: Option<Telemetry>,
    /// Who may enter.
    pub gate: Gate,
    /// How often, and how much at once.
    pub admission: Admission,
    /// Who may have policies checked now.
    pub checks: Turns,
    /// Set when the process is stopping.
    pub draining: AtomicBool,
}

impl Api {
    /// Whether new work is accepted.
    pub fn accepts_work(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }
}

/// Registers every route.
pub fn configure(config: &mut web::ServiceConfig) {
    routes::configure(config);
    config.default_service(web::to(routes::nowhere));
}
