//! What a tenant registers by itself.

use super::*;
use crate::domain::id::TenantId;

#[test]
fn a_tenant_registers_what_a_file_says_but_what_is_an_operators() {
    let register = |extra: &str| {
        let text = format!("{GOOD}{extra}");
        let tiers = Settings::default().tiers;
        let context = LoadContext {
            env: Env::Development,
            secret: &|_| Some("s3cret".into()),
            check_params: &|_| Ok(()),
            tiers: &tiers,
            guard: &OPEN,
        };
        let acme = TenantId::parse("acme").unwrap();
        Catalog::registered(&file(FaultKind::Detector, "d.yaml", &text), &acme, &context)
    };
    let detector = register("timeout: 100ms\n").unwrap();
    assert_eq!(detector.private_to.as_ref().map(TenantId::as_str), Some("acme"));
    assert!(detector.must_answer_first() && detector.weight.total_cmp(&1.0).is_eq());
    let split = "versions:\n- {version: a, weight: 100, endpoint: http://h/a}\n";
    let detector = register(split).unwrap();
    let version = &detector.versions[0].detector;
    assert_eq!(version.private_to, detector.private_to, "its versions are as private");
    for key in ["auth: {type: bearer, env: KEY}", "delegation: x-own", "protocol: builtin"] {
        let text = format!("versions:\n- {{version: a, weight: 100, {key}}}\n");
        let faults = register(&text).unwrap_err();
        assert!(faults.iter().any(|f| f.code == "operator_only"), "{key}: {faults:?}");
    }
    for extra in ["weight: 1\n", "tenants: ['*']\n", "auth: none\n", "delegation: x-own\n"] {
        let faults = register(extra).unwrap_err();
        assert_eq!(codes(&faults), "d.yaml:5:1:operator_only", "{extra}");
    }
}

#[test]
fn the_parameters_of_what_is_an_operators_are_not_even_checked() {
    let context = LoadContext {
        env: Env::Development,
        secret: &|_| None,
        check_params: &|detector| panic!("{:?}", detector.params),
        tiers: &Settings::default().tiers,
        guard: &OPEN,
    };
    let text = "name: pii\nprotocol: builtin\ncategories: [pii]\nparams: {model: /etc/passwd}\n";
    let acme = TenantId::parse("acme").unwrap();
    let file = file(FaultKind::Detector, "pii.yaml", text);
    let faults = Catalog::registered(&file, &acme, &context).unwrap_err();
    assert_eq!(codes(&faults), "pii.yaml:2:11:operator_only");
}
