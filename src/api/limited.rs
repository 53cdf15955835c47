//! What the settings say of routes, held against the routes there are.

use super::access::RULES;
use crate::settings::RateLimit;
use crate::yaml;
use crate::yaml::fault::{Fault, FaultKind};

/// Routes of `security.rate_limit.routes` that there are none of.
pub fn check_routes(limits: &RateLimit) -> Result<(), Vec<Fault>> {
    let known: Vec<String> =
        RULES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let unknown = limits.routes.keys().filter(|route| !known.contains(route));
    let fault = |route: &String| {
        let near = yaml::nearest(route, known.iter().map(String::as_str));
        let hint = near.map_or("docs/permissions.md lists all routes".into(), |near| {
            format!("write `{near}`")
        });
        Fault {
            kind: FaultKind::Settings,
            file: "security.rate_limit.routes".into(),
            line: 0,
            column: 0,
            code: "unknown_route",
            message: format!("there is no route `{}`", yaml::shown(route)),
            hint: Some(hint),
        }
    };
    let faults: Vec<Fault> = unknown.map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Rate;

    #[test]
    fn a_rate_of_a_route_that_does_not_exist_is_refused_with_the_nearest() {
        let limits = |route: &str| RateLimit {
            routes: [(route.to_owned(), Rate { per_minute: 1, burst: None })].into(),
            ..RateLimit::default()
        };
        assert_eq!(check_routes(&limits("POST /orchestrate/batch")), Ok(()));
        let faults = check_routes(&limits("POST /orchestrate/bach")).unwrap_err();
        assert_eq!(faults[0].hint.as_deref(), Some("write `POST /orchestrate/batch`"));
        assert!(check_routes(&limits("/orchestrate")).is_err());
    }
}
