//! Tenants, quotas and pauses of the store beside the files.

use crate::domain::id::{DetectorName, TenantId};
use crate::store::{AuditEntry, Expected, Place, Sqlite, SqliteOptions, Store};

use super::*;

struct Shared {
    project: Project,
    store: Arc<dyn Store>,
    live: Arc<Live>,
}

fn id(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn document(name: &str, more: &str) -> String {
    format!(r#"{{"schema_version": 1, "id": "{name}", {more}}}"#)
}

impl Shared {
    fn new() -> Self {
        let project = Project::new();
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap());
        let sources = project.sources();
        let first = Snapshot::load(&sources, &project.settings, None).unwrap();
        let live = Arc::new(Live::new(first, sources, Some(Arc::clone(&store))));
        Self { project, store, live }
    }

    async fn refresh(&self) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.project.settings));
        tokio::task::spawn_blocking(move || live.refresh(&settings)).await.unwrap()
    }

    /// What another instance on the same store does.
    async fn elsewhere(&self, kind: RowKind, name: &str, body: &str) {
        self.store
            .put(RowPlace::of_tenant(kind, &id(name)).key(), body.into(), Expected::Any)
            .await
            .unwrap();
    }

    async fn change(&self, kind: RowKind, name: &str, body: Option<String>) -> Result<(), String> {
        let audit = AuditEntry {
            tenant: Some(id(name)),
            at_ms: 1,
            actor: "a".into(),
            action: "tenant.put".into(),
            target: format!("tenant/{name}"),
            reason: "test".into(),
            before: None,
            after: body.clone(),
        };
        let place = RowPlace::of_tenant(kind, &id(name));
        let change = RowChange { place, body, expected: Expected::Any, audit };
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.project.settings));
        let changed = tokio::task::spawn_blocking(move || live.change_row(change, &settings));
        changed.await.unwrap().map(drop).map_err(|error| match error {
            ChangeError::Invalid(faults) => faults[0].code.to_owned(),
            ChangeError::Defined => "defined".into(),
            ChangeError::Full { .. } => "full".into(),
            ChangeError::Store(error) => error.to_string(),
        })
    }

    fn serves(&self, name: &str) -> bool {
        self.live.current().catalog.tenants.contains_key(&id(name))
    }

    fn codes(&self) -> Vec<&'static str> {
        self.live.current().warnings.iter().map(|fault| fault.code).collect()
    }
}

#[tokio::test]
async fn what_another_instance_stores_of_tenants_is_seen_at_the_next_look() {
    let shared = Shared::new();
    let before = shared.live.current().revision.clone();
    shared.elsewhere(RowKind::Tenant, "nova", &document("nova", r#""tier": "starter""#)).await;
    shared.elsewhere(RowKind::Quota, "nova", r#"{"concurrent": 7}"#).await;
    shared.elsewhere(RowKind::Pause, "acme", "{}").await;
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    let current = shared.live.current();
    assert_ne!(current.revision, before);
    let nova = &current.catalog.tenants["nova"];
    let limits = current.limits(nova);
    assert_eq!((limits.concurrent, limits.requests_per_hour), (Some(7), Some(500)));
    assert!(current.paused(&current.catalog.tenants["acme"]) && !current.paused(nova));
    assert!(current.seen.contains_key("nova"));
    assert!(shared.refresh().await.is_none(), "nothing is new");
}

#[tokio::test]
async fn stored_tenants_that_do_not_fit_fail_alone_and_are_named() {
    let shared = Shared::new();
    for (name, body) in [
        ("good", document("good", r#""tier": "starter""#)),
        ("garbage", "no JSON: [".to_owned()),
        ("tierless", document("tierless", r#""tier": "gone""#)),
        ("lawless", document("lawless", r#""policies": ["standard", "gone"]"#)),
        ("other", document("another", r#""tier": "starter""#)),
    ] {
        shared.elsewhere(RowKind::Tenant, name, &body).await;
    }
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    assert!(shared.serves("good") && shared.serves("acme"));
    for (name, code) in
        [("tierless", "unknown_tier"), ("lawless", "unknown_policy"), ("other", "name_mismatch")]
    {
        assert!(!shared.serves(name), "{name}");
        assert!(shared.codes().contains(&code), "{name}: {:?}", shared.codes());
        assert_eq!(
            shared
                .live
                .current()
                .broken_row(&RowPlace::of_tenant(RowKind::Tenant, &id(name)))
                .unwrap()[0]
                .code,
            code
        );
    }
    assert!(!shared.serves("garbage"));
    // Files still reload beside them, and a change that does not fit is never stored.
    std::fs::write(shared.project.path("config/tenants/acme.yaml"), tenant("enterprise")).unwrap();
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    let refused = shared.change(RowKind::Tenant, "nova", Some(document("nova", r#""tir": 1"#)));
    assert_eq!(refused.await, Err("unknown_key".into()));
    assert_eq!(
        shared.store.object(RowPlace::of_tenant(RowKind::Tenant, &id("nova")).key()).await,
        Ok(None)
    );
}

#[tokio::test]
async fn a_file_that_comes_later_serves_and_the_stored_tenant_comes_back_after_it() {
    let shared = Shared::new();
    let file = shared.project.path("config/tenants/nova.yaml");
    let stored = document("nova", r#""tier": "professional""#);
    shared.change(RowKind::Tenant, "nova", Some(stored.clone())).await.unwrap();
    let tier = || shared.live.current().catalog.tenants["nova"].facts.tier.to_string();
    assert_eq!(tier(), "professional");
    std::fs::write(&file, "schema_version: 1\nid: nova\ntier: enterprise\n").unwrap();
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    assert_eq!(tier(), "enterprise");
    assert_eq!(shared.codes(), ["shadowed"]);
    let again = shared.change(RowKind::Tenant, "nova", Some(stored)).await;
    assert_eq!(again, Err("defined".into()));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    assert_eq!((tier().as_str(), shared.codes()), ("professional", Vec::new()));
    shared.change(RowKind::Tenant, "nova", None).await.unwrap();
    assert!(!shared.serves("nova"));
}

#[tokio::test]
async fn a_detector_for_a_stored_tenant_names_somebody() {
    let shared = Shared::new();
    let shipped = std::fs::read_to_string(shared.project.path("detectors/pii.yaml")).unwrap();
    let text = format!(
        "{}\ntenants: [nova]\n",
        shipped.replace("name: pii\n", "name: own\nbuiltin: pii\n")
    );
    std::fs::write(shared.project.path("detectors/own.yaml"), text).unwrap();
    assert!(matches!(shared.refresh().await, Some(Ok(_))), "{:?}", shared.live.generations());
    assert_eq!(shared.codes(), ["unknown_tenant"]);
    let nova = document("nova", r#""tier": "starter""#);
    shared.change(RowKind::Tenant, "nova", Some(nova)).await.unwrap();
    assert_eq!(shared.codes(), Vec::<&str>::new());
    shared.change(RowKind::Tenant, "nova", None).await.unwrap();
    assert_eq!(shared.codes(), ["unknown_tenant"]);
}

#[tokio::test]
async fn what_another_instance_registers_is_seen_at_the_next_look_and_what_does_not_fit_fails_alone()
 {
    let shared = Shared::new();
    let acme = id("acme");
    let place = |name: &str| RowPlace::of_detector(&acme, &DetectorName::parse(name).unwrap());
    let put = async |place: RowPlace, body: &str| {
        shared.store.put(place.key(), body.to_owned(), Expected::Any).await.unwrap();
    };
    let document = |name: &str, more: &str| {
        format!(
            r#"{{"name": "{name}", "protocol": "native", "endpoint": "https://h/x", "categories": ["topic"]{more}}}"#
        )
    };
    put(place("own"), &document("own", "")).await;
    put(place("heavy"), &document("heavy", r#", "weight": 9"#)).await;
    put(place("garbage"), "no JSON: [").await;
    put(place("pii"), &document("pii", "")).await;
    let strategies = r#"{"strategies": {"late": {"detectors": ["pii", "own"]}, "default": {}}}"#;
    put(RowPlace::of_strategies(), strategies).await;
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    let current = shared.live.current();
    let own: Vec<&str> = current.catalog.private[&acme].keys().map(DetectorName::as_str).collect();
    assert_eq!(own, ["own"]);
    assert!(current.seen["acme"].detectors.contains_key("own"));
    assert!(!current.seen["default"].detectors.contains_key("own"));
    assert_eq!(current.broken_row(&place("heavy")).unwrap()[0].code, "operator_only");
    assert!(current.broken_row(&place("garbage")).is_some());
    let shadowed = current.warnings.iter().filter(|fault| fault.code == "shadowed");
    assert_eq!(shadowed.count(), 2, "the file's pii and default serve: {:?}", current.warnings);
    let late = &current.catalog.strategies["late"];
    assert_eq!(late.detectors, ["pii"].map(|name| DetectorName::parse(name).unwrap()));
    assert!(late.stored && !current.catalog.strategies["default"].stored);

    // An equal body is not read again: what it became is the same.
    let before = Arc::clone(&current.catalog.private[&acme]["own"]);
    put(place("own"), &document("own", "")).await;
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    let current = shared.live.current();
    assert!(Arc::ptr_eq(&before, &current.catalog.private[&acme]["own"]));
    put(place("own"), &document("own", r#", "timeout": "100ms""#)).await;
    assert!(matches!(shared.refresh().await, Some(Ok(_))));
    let changed = shared.live.current().catalog.private[&acme]["own"].timeout;
    assert_eq!(changed.as_millis(), 100);
}
