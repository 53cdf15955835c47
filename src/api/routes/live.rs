//! What is live: generations, and the keys of what is sent.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, web};

use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query, tenant};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/generations")).route(web::get().to(generations)));
}

/// What serves here and at the other instances, and what of the last change was refused here.
#[utoipa::path(get, path = "/api/v1/generations", tag = "live",
    responses((status = 200, description = "Revision, generation, instances, faults of the last change",
        body = Object)))]
pub(crate) async fn generations(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let mut generations = api.live.generations_of_all().await;
    if caller.tenant.is_some() || http.headers().contains_key("x-tenant-id") {
        let tenant = tenant(&http, &caller, None, &api.live.current())?;
        generations.faults.retain(|fault| concerns(&fault.file, tenant.as_str()));
        generations.warnings.retain(|fault| concerns(&fault.file, tenant.as_str()));
        for edit in &mut generations.history {
            edit.changed.retain(|file| concerns(file, tenant.as_str()));
            edit.faults.retain(|fault| concerns(&fault.file, tenant.as_str()));
        }
        // What is left without either was another tenant's, or taken back.
        generations.history.retain(|edit| !(edit.changed.is_empty() && edit.faults.is_empty()));
    }
    json(&generations)
}

/// Whether a file is the tenant's or everyone's: who asks for one tenant sees no other's faults.
pub(super) fn concerns(file: &str, tenant: &str) -> bool {
    let mut parts = file.split('/').skip_while(|part| *part != "tenants").skip(1);
    parts.next().is_none_or(|owner| owner.strip_suffix(".yaml").unwrap_or(owner) == tenant)
}

/// The public keys of the tokens that detectors are sent (RFC 7517); for everybody.
pub(crate) async fn key_set(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    json(&api.deps.detectors.key_set())
}

#[cfg(test)]
mod tests {
    use super::concerns;

    #[test]
    fn faults_in_another_tenants_files_are_not_its_neighbours_to_see() {
        for shared in
            ["policies/standard/data.yaml", "detectors/pii.yaml", "config/strategies.yaml"]
        {
            assert!(concerns(shared, "acme"), "{shared}");
        }
        for path in [
            "stored/tenants/X/standard/a.rego",
            "stored/tenants/X/standard",
            "/srv/policies/tenants/X/strict/data.yaml",
            "config/tenants/X.yaml",
        ] {
            assert!(concerns(&path.replace('X', "acme"), "acme"), "{path}");
            for other in ["acme2", "acm", "globex"] {
                assert!(!concerns(&path.replace('X', other), "acme"), "{path} of {other}");
            }
        }
    }
}
