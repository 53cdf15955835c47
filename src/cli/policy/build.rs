//! `orchestrator policy build`: a view as a bundle of Open Policy Agent.

use super::BuildArgs;
use crate::cli::{Session, complain, exit, print};
use crate::domain::id::{BundleName, TenantId};

pub(super) fn run(args: &BuildArgs) -> u8 {
    let BuildArgs { tenant, bundle, output, config } = args;
    let session = match Session::open(config.as_deref()) {
        Ok(session) => session,
        Err(code) => return code,
    };
    let policies = &session.snapshot.policies;
    let ids = TenantId::parse(tenant).ok().zip(BundleName::parse(bundle).ok());
    let Some(view) = ids.and_then(|(tenant, bundle)| policies.view(&tenant, &bundle)) else {
        complain(&format!(
            "no tenant `{tenant}` uses a policy `{bundle}`: name a tenant of config/tenants and \
             one of its policies"
        ));
        return exit::DATA;
    };
    if view.is_broken() {
        complain(
            "the tenant's stored overlay does not fit the files; `orchestrator check` says why",
        );
        return exit::DATA;
    }
    let written = view.opa_bundle().and_then(|bytes| std::fs::write(output, bytes));
    if let Err(error) = written {
        complain(&format!("{}: could not be written: {error}", output.display()));
        return exit::NO_INPUT;
    }
    print(&format!("{}: revision {}", output.display(), view.digest().hex()));
    exit::OK
}
