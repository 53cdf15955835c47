//! `orchestrator policy`: work on policies without a server.

pub(super) mod build;
