//! Tenant files: faults and where they are, and the limits that follow from them.

use super::*;
use crate::settings::Tier;

#[test]
fn every_bad_tenant_file_is_refused_at_its_place() {
    for (extra, expected) in [
        ("fail_mode: allow\n", "3:12:bad_value"),
        ("default_policy: strict\n", "3:17:bad_value"),
        ("policies: []\n", "3:11:bad_value"),
        ("rate_limit: {per_minute: 0}\n", "3:13:out_of_range"),
        ("rate_limit: {per_minute: 5, burst: 0}\n", "3:13:out_of_range"),
        ("rate_limit: {burst: 5}\n", "3:13:missing_key"),
        ("rate_limit: {per_minute: 5, brst: 5}\n", "3:29:unknown_key"),
        ("tier: enterprize\n", "3:7:unknown_tier"),
        ("signing: {required: true}\n", "3:10:bad_value"),
        ("signing: {required: true, secrets: [{env: NONE}]}\n", "3:43:secret_missing"),
        ("signing: {required: true, secrets: [{env: KEY}]}\n", "3:37:secret_missing"),
        ("thresholds: {pii: 2}\n", "3:19:out_of_range"),
        ("sla: {critical_ms: 5}\n", "3:20:out_of_range"),
        ("weight: 0\n", "3:9:out_of_range"),
        ("retention_days: 0\n", "3:17:out_of_range"),
        ("retention_days: 3651\n", "3:17:out_of_range"),
    ] {
        let text = format!("schema_version: 1\nid: t\n{extra}");
        let faults =
            load(Env::Development, &[file(FaultKind::Tenant, "t.yaml", &text)]).unwrap_err();
        assert_eq!(codes(&faults), format!("t.yaml:{expected}"), "{extra} {faults:?}");
    }
}

#[test]
fn no_tenant_is_called_as_metrics_name_the_rest() {
    let text = "schema_version: 1\nid: other\n";
    let faults =
        load(Env::Development, &[file(FaultKind::Tenant, "other.yaml", text)]).unwrap_err();
    assert_eq!(codes(&faults), "other.yaml:2:5:bad_value", "{faults:?}");
    assert!(faults[0].hint.as_deref().unwrap().contains("another id"), "{faults:?}");
}

#[test]
fn a_tenant_has_the_limits_of_its_tier_and_its_own_weight_and_rate() {
    let tenant = |lines: &str| {
        let text = format!("schema_version: 1\nid: t\n{lines}");
        let (catalog, _) =
            load(Env::Development, &[file(FaultKind::Tenant, "t.yaml", &text)]).unwrap();
        (catalog.tenants["t"].tier, catalog.tenants["t"].rate_limit)
    };
    let tiers = Settings::default().tiers;
    assert_eq!(tenant(""), (tiers["starter"], None));
    let (tier, rate) = tenant("tier: enterprise\nweight: 2.5\nrate_limit: {per_minute: 5}\n");
    assert_eq!(tier, Tier { weight: 2.5, ..tiers["enterprise"] });
    assert_eq!(rate.map(|rate| (rate.per_minute, rate.burst())), Some((5, 1)));
}

#[test]
fn a_stored_tenant_chooses_no_secret_that_is_read() {
    let text = "schema_version: 1\nid: t\nsigning: {secrets: [{file: /etc/hostname}]}\n";
    let tiers = Settings::default().tiers;
    let context = LoadContext {
        env: Env::Development,
        secret: &|_| panic!("it was read"),
        guard: &OPEN,
        check_params: &|_| Ok(()),
        tiers: &tiers,
    };
    let stored = file(FaultKind::Tenant, "stored/tenants/t.yaml", text);
    let faults = Catalog::tenant(&stored, &context).unwrap_err();
    assert_eq!(codes(&faults), "stored/tenants/t.yaml:3:20:bad_value");
}
