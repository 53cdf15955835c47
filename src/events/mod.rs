//! What happens here, told: into the store, from the store to the bus and to whoever listens.
//!
//! An event is durable before anybody hears of it. Whoever listens and fails is its own matter.

mod feed;
mod handlers;
mod publisher;
mod recorder;
#[cfg(test)]
mod tests;
mod watcher;

pub use feed::{Feed, Full, Heard, Listener};
pub use handlers::{Handlers, said};
pub use publisher::{KEPT, Publisher, message};
pub use recorder::{flush, record};
pub use watcher::Watcher;
