//! What is fuzzed. Each target holds what it reads to a property, or at least to ending without panic.

mod files;
mod names;
mod replies;
mod requests;
mod texts;
mod tokens;

/// Tries one input.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("request", requests::request),
    ("envelope", requests::envelope),
    ("reply", replies::reply),
    ("rego", files::rego),
    ("detector_file", files::detector),
    ("tenant_file", files::tenant),
    ("settings", files::settings),
    ("names", names::names),
    ("url", names::url),
    ("text", texts::text),
    ("token", tokens::token),
    ("key_set", tokens::key_set),
];
