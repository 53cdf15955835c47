//! Plain data and pure functions of the product: what is asked, found, covered, resolved, decided.
//!
//! No I/O, no async, no HTTP, no clock.

pub mod access;
pub mod action;
pub mod calibration;
pub mod category;
pub mod chunk;
pub mod conflict;
pub mod content;
pub mod coverage;
pub mod custody;
pub mod digest;
pub mod drift;
pub mod error;
pub mod event;
pub mod finding;
pub mod head;
pub mod id;
pub mod job;
pub mod judgement;
pub mod log;
pub mod outcome;
pub mod overlap;
pub mod performance;
pub mod plan;
pub mod redaction;
pub mod report;
pub mod request;
pub mod span;
pub mod trace;
pub mod verdict;
pub mod view;
