//! Trains the `prompt-injection` model and measures it. Data: `scripts/quality-data`.
//!
//! `bench-quality train-injection` writes the model's two files, the same bytes each time;
//! `bench-quality injection` writes docs/quality/injection.md, and `injection-onnx` the part of it
//! about the ONNX model, which benches/quality/network/train.py makes of what `training-texts` writes.

mod attacks;
mod benign;
#[cfg(feature = "ml")]
mod beside;
mod data;
mod disguise;
mod near;
mod papers;
mod random;
mod report;
mod settings;
mod training;

#[cfg(feature = "ml")]
pub use beside::beside;
pub use report::report;
pub use training::{texts, train};
