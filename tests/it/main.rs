//! Tests of the running service: real sockets, real policies, real store.

mod api;
mod app;
mod completeness;
mod detectors;
mod reload;
mod scenarios;
