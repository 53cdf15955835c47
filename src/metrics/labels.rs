//! Closed sets of label values.

/// A closed set whose names are labels.
macro_rules! labels {
    ($($(#[$doc:meta])* $set:ident { $($(#[$of:meta])* $variant:ident $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $set { $($(#[$of])* $variant,)* }

        impl $set {
            /// Every one.
            pub const ALL: &'static [$set] = &[$($set::$variant,)*];

            /// The label.
            pub fn name(self) -> &'static str {
                match self { $($set::$variant => $name,)* }
            }
        }
    )*};
}

labels! {
    /// Breaker states.
    BreakerState {
        /// Calls go through.
        Closed "closed",
        /// No calls.
        Open "open",
        /// One call tries.
        HalfOpen "half_open",
    }
    /// What happened to a detector.
    Discovery {
        /// It began to serve.
        Registered "registered",
        /// It serves no more.
        Unregistered "unregistered",
        /// Its service said who it is.
        Discovered "discovered",
    }
    /// What became of the call of a detector that a plan named.
    Routed {
        /// It was sent.
        Sent "sent",
        /// An equal one of another request was waited for.
        Joined "joined",
        /// None was made.
        Refused "refused",
    }
    /// Which part a detector takes.
    Part {
        /// It is asked.
        Active "active",
        /// Its service did not answer yet.
        Pending "pending",
        /// It is only observed.
        Shadow "shadow",
    }
    /// Why content was redacted, held or blocked.
    Violation {
        /// Something was found.
        Finding "finding",
        /// A rule says so where nothing was found.
        Rule "rule",
        /// Not everything was judged.
        Incomplete "incomplete",
        /// The policy failed.
        PolicyFailed "policy_failed",
    }
    /// Why a request was refused by a service at its limit.
    Shed {
        /// As many wait as may, and none is less urgent.
        QueueFull "queue_full",
        /// Its turn did not come in time.
        Deadline "deadline",
        /// Too many bytes of bodies are held for one of its size.
        Memory "memory",
    }
    /// What the service can do without for a while.
    Dependency {
        /// The cache that instances share.
        Redis "redis",
        /// What takes records of decisions.
        Store "store",
        /// The bus that carries events.
        Nats "nats",
    }
    /// What became of a request under an idempotency key.
    Idempotent {
        /// It was carried out.
        Executed "executed",
        /// It was answered as before.
        Replayed "replayed",
        /// Another of the key was under way for too long, or too many waited.
        InFlight "in_flight",
        /// The key came with another body.
        Mismatch "mismatch",
        /// The store did not take it, or what it gave could not be read.
        Failed "failed",
    }
    /// How the telling of the end of a job went.
    Webhook {
        /// It was taken.
        Taken "taken",
        /// It was not, and is told again.
        Again "again",
        /// It was given up.
        Dead "dead",
    }
    /// What a dead letter is of.
    Letter {
        /// A job that was given up.
        Job "job",
        /// The end of a job, told in vain.
        Webhook "webhook",
    }
    /// Which part of the configuration was reloaded.
    ConfigKind {
        /// Detector files.
        Detectors "detectors",
        /// Policies.
        Policies "policies",
        /// Tenant files.
        Tenants "tenants",
        /// Strategies.
        Strategies "strategies",
    }
}

/// How one of everyone's detectors fares.
#[derive(Debug, Clone, Copy)]
pub struct DetectorGauges<'a> {
    /// Which.
    pub name: &'a str,
    /// Of several versions the worst.
    pub breaker: BreakerState,
    /// 1, 0.5 or 0; `None` before the first probe.
    pub health: Option<f64>,
    /// Whether it is asked.
    pub part: Part,
}
