//! Whether a tenant's requests are signed, and with which secrets.

use super::credential;
use super::load::LoadContext;
use crate::seal::SharedSecret;
use crate::yaml::{Data, Fields, Source};

/// Secrets believed at once: one, and while it is replaced its heir.
const SECRETS_MAX: usize = 2;

/// Whether requests are signed, and what is believed. `Debug` never shows a secret.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signing {
    /// Whether every request of the tenant's credentials must be signed.
    pub required: bool,
    /// Any of them may have signed; empty where nobody signs.
    pub secrets: Vec<SharedSecret>,
}

/// Reads `signing`; secrets are resolved here, so a missing one is a fault of the file.
pub(super) fn read(
    tenant: &mut Fields<'_>,
    source: Source<'_>,
    context: &LoadContext<'_>,
) -> Signing {
    let Some(node) = tenant.node("signing") else { return Signing::default() };
    let mut fields = Fields::new(node, source);
    let required: bool = fields.take("required").unwrap_or_default();
    let listed = fields.node("secrets");
    let nodes = match listed.map(|node| &node.data) {
        Some(Data::List(nodes)) if (1..=SECRETS_MAX).contains(&nodes.len()) => nodes.as_slice(),
        None if !required => &[],
        None | Some(_) => {
            let message = format!("signing needs 1 to {SECRETS_MAX} secrets");
            let hint = "write `secrets: [{env: NAME}]` or `secrets: [{file: PATH}]`";
            fields.refuse("secrets", "bad_value", message, hint);
            &[]
        }
    };
    if source.file.starts_with("stored/") && !nodes.is_empty() {
        // Whoever writes through the API must not choose files and variables that are read.
        let message = "a stored tenant names no secrets".to_owned();
        fields.refuse("secrets", "bad_value", message, "define the tenant by a file");
        tenant.faults.extend(fields.finish());
        return Signing::default();
    }
    let mut secrets = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let mut inner = Fields::new(node, source);
        let secret = credential::secret(&mut inner, context);
        fields.faults.extend(inner.finish());
        match secret.map(SharedSecret::new) {
            Some(Some(secret)) => secrets.push(secret),
            Some(None) => {
                let message = format!("the secret has less than {} bytes", SharedSecret::BYTES_MIN);
                let at = format!("/secrets/{index}");
                fields.refuse(&at, "secret_missing", message, "make one: `openssl rand -hex 32`");
            }
            None => {}
        }
    }
    tenant.faults.extend(fields.finish());
    Signing { required, secrets }
}
