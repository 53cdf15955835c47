//! What the service tells whoever listens.

use serde_json::Value;

use super::digest::Digest;
use super::id::TenantId;

macro_rules! types {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// What happened. Names are public and never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType { $(#[doc = $meaning] $variant,)* }

        impl EventType {
            /// Every one, in the order of the documentation.
            pub const ALL: &'static [EventType] = &[$(EventType::$variant,)*];

            /// The name in store, metrics and API.
            pub fn name(self) -> &'static str {
                match self { $(EventType::$variant => $name,)* }
            }

            /// The one of that name.
            pub fn parse(raw: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == raw)
            }
        }
    };
}

types! {
    ServiceHealthChanged "service_health_changed" "A detector became healthy, degraded or unhealthy.";
    ServiceDiscovered "service_discovered" "A detector appeared in a file.";
    ServiceRegistered "service_registered" "A detector was registered through the API.";
    ServiceUnregistered "service_unregistered" "A registered detector was taken away.";
    RequestRouted "request_routed" "A request was judged.";
    RequestFailed "request_failed" "A request got no outcome.";
    CircuitBreakerOpened "circuit_breaker_opened" "A breaker opened.";
    CircuitBreakerClosed "circuit_breaker_closed" "A breaker closed.";
    ConfigReloaded "config_reloaded" "Another snapshot is served.";
    PolicyChanged "policy_changed" "A policy was written through the API.";
    Incident "incident" "Somebody should look: `data` holds severity and fallback_reason.";
    ForensicAnalysisTriggered "forensic_analysis_triggered" "Evidence is to be examined.";
    ArchitectureReviewRequested "architecture_review_requested" "A review of the set-up is asked for.";
    JobQueued "job_queued" "A job waits for a worker.";
    JobRunning "job_running" "A worker took a job.";
    JobPaused "job_paused" "A job was paused.";
    JobCompleted "job_completed" "A job was carried out.";
    JobFailed "job_failed" "A job was given up.";
    JobCancelled "job_cancelled" "A job was cancelled.";
    JobAudit "job_audit" "An administrator acted on a job.";
}

impl EventType {
    /// The last part of the subject of a job's event, such as `queued`; `None` for all others.
    pub fn of_job(self) -> Option<&'static str> {
        self.name().strip_prefix("job_")
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same for the same happening, however often it is told: whoever listens knows it again.
    pub id: Digest,
    /// What.
    pub event_type: EventType,
    /// `None` where it concerns no single tenant.
    pub tenant: Option<TenantId>,
    /// Wall clock, milliseconds since 1970.
    pub at_ms: i64,
    /// What tells it, such as `job/0192…` or `detector/pii`.
    pub source: String,
    /// A JSON object; never content.
    pub data: Value,
}

impl Event {
    /// Where it is published: `orch.<tenant>.detector.job.<state>` for a job's, otherwise
    /// `orch.<tenant>.event.<type>`; `_`, which no tenant is called, where it has none.
    pub fn subject(&self) -> String {
        let tenant = self.tenant.as_ref().map_or("_", TenantId::as_str);
        match self.event_type.of_job() {
            Some(state) => format!("orch.{tenant}.detector.job.{state}"),
            None => format!("orch.{tenant}.event.{}", self.event_type.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_name_and_each_event_the_subject_of_its_tenant() {
        for (at, one) in EventType::ALL.iter().enumerate() {
            assert_eq!(EventType::parse(one.name()), Some(*one));
            assert!(EventType::ALL[..at].iter().all(|other| other.name() != one.name()));
        }
        let event = |event_type, tenant: Option<&str>| Event {
            id: Digest::of(b""),
            event_type,
            tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
            at_ms: 0,
            source: String::new(),
            data: Value::Null,
        };
        for (event, subject) in [
            (event(EventType::JobQueued, Some("acme")), "orch.acme.detector.job.queued"),
            (event(EventType::JobAudit, Some("acme")), "orch.acme.detector.job.audit"),
            (event(EventType::Incident, Some("acme")), "orch.acme.event.incident"),
            (event(EventType::ConfigReloaded, None), "orch._.event.config_reloaded"),
        ] {
            assert_eq!(event.subject(), subject);
        }
        assert!(TenantId::parse("_").is_err(), "it must stay free");
    }
}
