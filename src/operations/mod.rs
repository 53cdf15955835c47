//! The circuit breaker.

pub mod breaker;
