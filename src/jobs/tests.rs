//! What holds of jobs whatever happens to those who carry them out.

mod order;
mod simulation;
