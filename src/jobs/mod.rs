//! Work that waits: taken in, carried out in turn, told of at its end; and many requests at once.
//!
//! What a job is and where it may go is `domain::job`; the store keeps it, its moves and its events.
//! Nothing here knows what carrying out means: whoever runs a crew says so.

pub mod batch;
mod content;
mod crew;
mod run;
#[cfg(test)]
mod tests;
mod turns;
mod upkeep;
pub mod webhook;

pub use content::{Asker, Callback, Payload};
pub use crew::{Crew, Fruitless, Progress, Tried, Wish, refused};
pub use run::{Perform, Task, run};
