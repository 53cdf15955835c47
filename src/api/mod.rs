//! Routes, wire types, status codes. Nothing here decides; handlers end in `orchestrator::run`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::web;

use crate::admission::Admission;
use crate::auth::Gate;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::events::Feed;
use crate::jobs::Crew;
use crate::orchestrator::Deps;
use crate::outbound::Guard;
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
mod idempotency;
pub mod limited;
mod lines;
mod performed;
mod pieces;
mod problem;
mod routes;
mod stream;
mod strict;
mod trace;
mod turns;
pub mod wire;
mod workers;

pub use access::guard;
pub use body::BodyLimits;
pub use connections::Connections;
pub use docs::openapi;
pub use edge::edge;
pub use idempotency::Repeats;
pub use performed::perform;
pub use stream::Stream;
pub use trace::root_span;
pub use turns::Turns;
pub use workers::{Worker, Workers};

pub use routes::evidence::published::Published;
pub use routes::health::{Operators, configure_operators};
pub use routes::keys::{KeyRequest, KeyView};
pub use routes::policies::check::{Asked, evaluated};
pub use routes::policies::{Resolved, resolved};

/// How long a check waits for its turn.
const TURN: Duration = Duration::from_secs(10);

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
    /// What everybody may know of the logs.
    pub published: Published,
    /// Who may have policies checked now.
    pub checks: Turns,
    /// What is carried out once, and who waits for it.
    pub repeats: Repeats,
    /// What each serving thread did.
    pub workers: Workers,
    /// The jobs of this instance.
    pub crew: Arc<Crew>,
    /// Where ends of jobs may be told.
    pub callbacks: Arc<Guard>,
    /// Who listens to events.
    pub feed: Arc<Feed>,
    /// Set when the process is stopping.
    pub draining: AtomicBool,
}

impl Api {
    /// A turn at what takes a while, of `tenant` or of those who act across tenants.
    async fn turn(&self, tenant: Option<&TenantId>) -> Result<turns::Turn, Error> {
        let everyone = TenantId::parse("default").ok();
        let turn = match tenant.or(everyone.as_ref()) {
            Some(tenant) => self.checks.take(tenant, TURN).await,
            None => None,
        };
        let message = "too much is being checked; send it again later";
        turn.ok_or_else(|| Error::new(Code::Overloaded, message))
    }

    /// Whether whoever chooses an instance shall choose this one; what comes all the same is served.
    pub fn accepts_work(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }
}

/// Registers every route.
pub fn configure(config: &mut web::ServiceConfig) {
    routes::configure(config);
    config.default_service(web::to(routes::nowhere));
}
