//! Where the settings let the service connect to.

use crate::outbound::{self, Allow, AllowError, Guard};
use crate::settings::{Env, Settings};

/// The guard of the settings; fails where `security.outbound_allow` holds something else.
pub fn guard(settings: &Settings) -> Result<Guard, AllowError> {
    let env = match settings.env {
        Env::Development => outbound::Env::Development,
        Env::Staging => outbound::Env::Staging,
        Env::Production => outbound::Env::Production,
    };
    let allow = settings.security.outbound_allow.iter().map(|raw| Allow::parse(raw));
    Ok(Guard::new(env, allow.collect::<Result<_, _>>()?))
}
