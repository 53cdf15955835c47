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
mod book;
mod cache;
mod canaries;
mod cardinality;
mod checked;
#[path = "../chromium/mod.rs"]
mod chromium;
mod claims;
mod commands;
mod completeness;
mod console;
mod cookbook;
mod corpus;
mod credentials;
mod damage;
mod deploy;
mod detectors;
mod durability;
mod edge;
mod events;
mod evidence;
mod exported;
mod faults;
mod floor;
mod hostile_policies;
mod hostile_replies;
mod idempotency;
mod instances;
mod introspection;
mod isolation;
mod jobs;
mod logs;
mod metrics;
#[path = "../models/action/mod.rs"]
mod model;
mod mounted;
#[path = "../nats/mod.rs"]
mod nats_server;
#[path = "../nginx/mod.rs"]
mod nginx;
mod opa;
mod operators;
mod overlays;
mod overload;
mod policy_tools;
#[path = "../postgres/mod.rs"]
mod postgres;
mod probe;
#[path = "../prometheus/mod.rs"]
mod prometheus;
mod proofs;
mod quality;
mod real;
mod redaction;
mod redis;
#[path = "../redis/mod.rs"]
mod redis_server;
mod registry;
mod reload;
mod remote;
mod replay;
mod review;
mod rolling;
mod scenarios;
mod search;
mod shared;
mod signing;
mod stopping;
mod tamper;
mod tenants;
mod tighten;
#[path = "../models/tighten.rs"]
mod tighten_model;
mod traces;
mod tutorial;
mod versions;
mod waf;
