//! Tests of the running service: real sockets, real policies, real store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::zombie_processes,
    reason = "a test that cannot go on fails"
)]

mod api;
mod app;
mod binary;
mod commands;
mod completeness;
mod corpus;
mod detectors;
mod logs;
mod opa;
mod real;
mod redaction;
mod reload;
mod scenarios;
