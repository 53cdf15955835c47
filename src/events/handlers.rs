//! Who hears of every event in this process. One that fails, or panics, harms nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::domain::event::EventType;
use crate::metrics::Metrics;
use crate::store::Told;

/// What is done with an event; the text says why it could not be.
type Handle = dyn Fn(&Told) -> Result<(), String> + Send + Sync;

/// Everyone who hears, by name.
pub struct Handlers {
    each: Vec<(&'static str, Box<Handle>)>,
    metrics: Arc<Metrics>,
}

impl Handlers {
    /// Nobody.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { each: Vec::new(), metrics }
    }

    /// With one more.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        handle: impl Fn(&Told) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.each.push((name, Box::new(handle)));
        self
    }

    /// Lets everyone hear.
    pub fn hear(&self, told: &Told) {
        let event_type = told.event.event_type;
        for (name, handle) in &self.each {
            let done = catch_unwind(AssertUnwindSafe(|| handle(told)));
            let why = match done {
                Ok(Ok(())) => {
                    self.metrics.event_handled(event_type, name);
                    continue;
                }
                Ok(Err(why)) => why,
                Err(_) => {
                    self.metrics.panicked();
                    "it panicked".to_owned()
                }
            };
            let event_type = event_type.name();
            tracing::warn!(handler = name, event_type, why, "an event was not handled");
        }
    }
}

/// Says in the log what somebody should look at.
pub fn said(told: &Told) -> Result<(), String> {
    let event = &told.event;
    let tenant = event.tenant.as_ref().map(|tenant| tenant.as_str());
    let (event_type, source) = (event.event_type.name(), event.source.as_str());
    let (id, data) = (event.id.hex(), event.data.to_string());
    let serious = [EventType::Incident, EventType::CircuitBreakerOpened];
    if serious.contains(&event.event_type) {
        tracing::warn!(event_type, tenant, source, id, data, "something happened");
    } else {
        tracing::debug!(event_type, tenant, source, id, data, "something happened");
    }
    Ok(())
}
