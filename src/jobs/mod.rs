//! Many orchestrations at once.

pub mod batch;
