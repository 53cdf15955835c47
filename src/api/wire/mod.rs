//! The shapes that travel over HTTP, and their way to and from the domain.

pub mod case;
pub mod content;
pub mod job;
pub mod request;
pub mod response;
