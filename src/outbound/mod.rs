//! The HTTP client towards detectors, and the guard on where it may connect.
//!
//! It never follows redirects, never reads proxy variables, never decompresses, never retries a
//! request that was written. Time-outs are the caller's: a dropped call closes its connection.

mod client;
mod connect;
mod guard;

pub use client::{Call, Client, Reply, SendError};
pub use connect::{Resolve, Resolving};
pub use guard::{Allow, AllowError, Env, Forbidden, Guard};

#[cfg(test)]
mod ssrf;
#[cfg(test)]
mod tests;
