//! Detector Orchestrator: one HTTP call asks many detectors about content, and Rego policies decide.
//!
//! Modules stand on floors and import only from lower floors; `tests/architecture.rs` enforces it.

// Floor 0
pub mod domain;
pub mod yaml;
// Floor 1
pub mod assets;
pub mod metrics;
pub mod operations;
pub mod outbound;
pub mod seal;
pub mod settings;
pub mod telemetry;
// Floor 2
pub mod bus;
pub mod cache;
pub mod catalog;
pub mod policy;
pub mod store;
// Floor 3
pub mod auth;
pub mod detect;
pub mod evidence;
pub mod snapshot;
// Floor 4
pub mod admission;
pub mod events;
// Floor 5
pub mod orchestrator;
// Floor 6
pub mod jobs;
// Floor 7
pub mod api;
// Floor 8
pub mod cli;
// Floor 9
pub mod app;
