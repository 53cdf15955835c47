//! Tests of the running service: real sockets, real policies, real store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::zombie_processes,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

mod access;
mod actions;
mod api;
mod app;
mod binary;
mod cache;
mod canaries;
mod cardinality;
mod claims;
mod commands;
mod completeness;
mod cookbook;
mod corpus;
mod credentials;
mod detectors;
mod edge;
mod faults;
mod floor;
mod hostile_policies;
mod hostile_replies;
mod isolation;
mod logs;
#[path = "../models/action/mod.rs"]
mod model;
mod opa;
mod operators;
mod overlays;
mod overload;
mod policy_tools;
#[path = "../postgres/mod.rs"]
mod postgres;
mod probe;
mod quality;
mod real;
mod redaction;
mod registry;
mod reload;
mod review;
mod scenarios;
mod shared;
mod signing;
mod tenants;
mod tighten;
#[path = "../models/tighten.rs"]
mod tighten_model;
mod tutorial;
mod versions;
mod waf;
