//! Trains the `prompt-injection` model and measures it. Data: `scripts/quality-data`.
//!
//! `bench-quality train-injection` writes the model's two files, the same bytes each time;
//! `bench-quality injection` writes docs/quality/injection.md.

mod attacks;
mod benign;
mod data;
mod disguise;
mod near;
mod papers;
mod random;
mod report;
mod settings;
mod training;

pub use report::report;
pub use training::train;
