//! What operators and policy authors write.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use detector_orchestrator::catalog::{Catalog, LoadContext, SourceFile};
use detector_orchestrator::outbound::Guard;
use detector_orchestrator::policy::{Limits, validate_modules};
use detector_orchestrator::settings::{Env, Settings, Tiers};
use detector_orchestrator::yaml::fault::{Fault, FaultKind};

/// A fault stands inside the file, says something and what to do.
fn teaches(faults: &[Fault], bytes: &[u8]) {
    assert!(!faults.is_empty());
    let lines = bytes.split(|byte| *byte == b'\n' || *byte == b'\r').count();
    for fault in faults {
        assert!(fault.line as usize <= lines + 1, "{fault} of {lines} lines");
        assert!(!fault.message.is_empty() && !fault.code.is_empty(), "{fault:?}");
    }
}

fn load(kind: FaultKind, path: &str, bytes: &[u8]) {
    let file = SourceFile { kind, path: path.to_owned(), bytes: Arc::from(bytes) };
    static TIERS: LazyLock<Tiers> = LazyLock::new(|| Settings::default().tiers);
    let context = LoadContext {
        env: Env::Production,
        guard: &Guard::default(),
        secret: &|_| None,
        check_params: &|_| Ok(()),
        tiers: &TIERS,
    };
    if let Err(faults) = Catalog::load(&[file], &context) {
        teaches(&faults, bytes);
    }
}

/// A detector's file.
pub fn detector(bytes: &[u8]) {
    load(FaultKind::Detector, "detectors/pii.yaml", bytes);
}

/// A tenant's file.
pub fn tenant(bytes: &[u8]) {
    load(FaultKind::Tenant, "config/tenants/acme.yaml", bytes);
}

/// The settings.
pub fn settings(bytes: &[u8]) {
    static PLACE: LazyLock<PathBuf> =
        LazyLock::new(|| std::env::temp_dir().join(format!("fuzz-{}.yaml", std::process::id())));
    std::fs::write(&*PLACE, bytes).unwrap();
    if let Err(faults) = Settings::load(Some(&PLACE), std::iter::empty()) {
        teaches(&faults, bytes);
    }
}

/// A module: scanned, parsed and compiled within bounds.
pub fn rego(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let modules = [("fuzz.rego".to_owned(), text.to_owned())];
    let answer = validate_modules(&modules, None, &[], &Limits::default());
    for error in &answer.errors {
        assert!(error.code != "busy" && error.code != "timeout", "{error}");
    }
    teaches_or_sound(&answer.errors, bytes);
}

fn teaches_or_sound(faults: &[Fault], bytes: &[u8]) {
    if !faults.is_empty() {
        teaches(faults, bytes);
    }
}
