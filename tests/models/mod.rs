//! Naive models of what the product does with spans, written from the design alone: slow, short,
//! and right by inspection. The tests of `spans.rs` hold the product to them.

pub mod chunks;
pub mod offsets;
pub mod redaction;
pub mod tally;
pub mod text;
