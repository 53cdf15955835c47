//! Overlays of the store beside the files.

use crate::domain::id::{BundleName, TenantId};
use crate::store::{Expected, Place, Sqlite, SqliteOptions, Store, StoreError};

use super::*;

fn own() -> (TenantId, BundleName) {
    (TenantId::parse("default").unwrap(), BundleName::parse("standard").unwrap())
}

fn table(action: &str) -> Option<String> {
    let body =
        format!(r#"{{"modules":[],"data":{{"settings":{{"actions":{{"pii":"{action}"}}}}}}}}"#);
    Some(body)
}

fn change(body: Option<String>, expected: Expected) -> Change {
    let (tenant, bundle) = own();
    let audit = audited(&tenant);
    Change { tenant, bundle, body, expected, audit }
}

struct Stored {
    project: Project,
    store: Arc<dyn Store>,
    live: Arc<Live>,
}

impl Stored {
    fn new() -> Self {
        Self::over(Project::new())
    }

    fn over(project: Project) -> Self {
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

    async fn change(&self, change: Change) -> Result<Arc<Snapshot>, ChangeError> {
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.project.settings));
        let change = move || live.change(change, &settings, &|_, _| Vec::new());
        tokio::task::spawn_blocking(move || change().map(|changed| changed.snapshot)).await.unwrap()
    }

    /// What another instance on the same store does.
    async fn elsewhere(&self, body: Option<String>) {
        let (tenant, bundle) = own();
        let key = key(&tenant, &bundle);
        match body {
            Some(body) => drop(self.store.put(key, body, Expected::Any).await.unwrap()),
            None => self.store.delete(key, Expected::Any).await.unwrap(),
        }
    }

    fn version(&self) -> Option<u64> {
        let (tenant, bundle) = own();
        self.live.current().overlay(&tenant, &bundle).map(|overlay| overlay.version)
    }

    fn action(&self) -> String {
        let (tenant, bundle) = own();
        let current = self.live.current();
        let view = current.policies.view(&tenant, &bundle).unwrap();
        view.settings()["actions"]["pii"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_another_instance_stores_is_seen_at_the_next_look() {
    let stored = Stored::new();
    let before = stored.live.current().revision.clone();
    stored.elsewhere(table("block")).await;
    assert!(matches!(stored.refresh().await, Some(Ok(_))));
    assert_eq!((stored.action().as_str(), stored.version()), ("block", Some(1)));
    assert!(stored.refresh().await.is_none(), "nothing is new");

    // Equal content is one revision, and yet another version to change.
    let revision = stored.live.current().revision.clone();
    stored.elsewhere(table("block")).await;
    assert!(matches!(stored.refresh().await, Some(Ok(_))));
    assert_eq!((&stored.live.current().revision, stored.version()), (&revision, Some(2)));

    stored.elsewhere(None).await;
    assert!(matches!(stored.refresh().await, Some(Ok(_))));
    assert_eq!((stored.action().as_str(), stored.version()), ("redact", None));
    assert_eq!(stored.live.current().revision, before);
}

#[tokio::test]
async fn a_stale_change_loses_to_another_instance_and_nothing_serves_of_it() {
    let stored = Stored::new();
    stored.elsewhere(table("block")).await;
    let lost = stored.change(change(table("flag"), Expected::Absent)).await;
    let conflict = Err(StoreError::Conflict {
        kind: overlays::KIND.into(),
        name: "standard".into(),
        found: 1,
    });
    match lost {
        Err(ChangeError::Store(error)) => assert_eq!(Err::<(), _>(error), conflict),
        other => panic!("{other:?}"),
    }
    assert_eq!(stored.action(), "redact");
    stored.refresh().await;
    stored.change(change(table("flag"), Expected::Version(1))).await.unwrap();
    assert_eq!((stored.action().as_str(), stored.version()), ("flag", Some(2)));
    assert!(stored.refresh().await.is_none(), "what this instance stored is known to it");
}

#[tokio::test]
async fn a_stored_overlay_at_fault_is_named_and_breaks_its_own_tenants_policy_alone() {
    let stored = Stored::new();
    let (tenant, bundle) = own();
    for (body, code, file) in [
        (table("explode"), "unknown_action", "stored/tenants/default/standard/data.yaml"),
        (Some("no json".into()), "unreadable", "stored/tenants/default/standard"),
    ] {
        stored.elsewhere(body).await;
        assert!(matches!(stored.refresh().await, Some(Ok(_))), "{code} held everyone up");
        let objects = super::super::stored(stored.store.as_ref()).await.unwrap();
        let (sources, settings) = (stored.project.sources(), &stored.project.settings);
        let start = Snapshot::load(&sources, settings, None).unwrap();
        let start = start.beside(&objects, &sources, settings).unwrap();
        for snapshot in [&*stored.live.current(), &start] {
            let view = |tenant: &TenantId, bundle| snapshot.policies.view(tenant, bundle).unwrap();
            assert!(view(&tenant, &bundle).is_broken(), "{code}");
            assert!(!view(&TenantId::parse("acme").unwrap(), &bundle).is_broken(), "{code}");
            let warnings = &snapshot.warnings;
            let found = |code: &str, file: &str| {
                warnings.iter().any(|fault| fault.code == code && fault.file == file)
            };
            assert!(found("overlay_broken", "stored/tenants/default/standard"), "{warnings:#?}");
            assert!(found(code, file), "{warnings:#?}");
        }
    }
    stored.elsewhere(None).await;
    assert!(matches!(stored.refresh().await, Some(Ok(_))));
    let current = stored.live.current();
    assert!(current.broken.is_empty() && current.warnings.is_empty(), "{:#?}", current.warnings);
}

#[tokio::test]
async fn a_closed_store_changes_nothing() {
    let stored = Stored::new();
    stored.store.close();
    let lost = stored.change(change(table("flag"), Expected::Absent)).await;
    assert!(matches!(lost, Err(ChangeError::Store(StoreError::Closed { .. }))), "{lost:?}");
    assert_eq!(stored.action(), "redact");
    assert!(stored.refresh().await.is_none());
}

#[tokio::test]
async fn a_policy_that_is_long_to_check_holds_up_neither_reloads_nor_others() {
    let mut project = Project::new();
    let mut settings = Settings::clone(&project.settings);
    settings.policy.eval_timeout.0 = Duration::from_millis(250);
    project.settings = Arc::new(settings);
    let stored = Stored::over(project);
    let rego = "package tenants.acme.strict\n\nblock contains \"x\" if {\n\tsome i in \
                numbers.range(1, 5000)\n\tsome j in numbers.range(1, 5000)\n\ti + j < 0\n}\n";
    let body = serde_json::json!({ "modules": [{ "path": "a.rego", "rego": rego }] });
    let tenant = TenantId::parse("acme").unwrap();
    let bundle = BundleName::parse("strict").unwrap();
    let hostile = Change { tenant, bundle, ..change(Some(body.to_string()), Expected::Absent) };
    let (live, settings) = (Arc::clone(&stored.live), Arc::clone(&stored.project.settings));
    let runtime = tokio::runtime::Handle::current();
    let (began, begin) = tokio::sync::oneshot::channel();
    let checking = std::thread::spawn(move || {
        let _runtime = runtime.enter();
        began.send(()).unwrap();
        live.change(hostile, &settings, &|_, _| Vec::new()).map(drop)
    });
    begin.await.unwrap();
    std::fs::write(stored.project.path("config/tenants/acme.yaml"), super::tenant("enterprise"))
        .unwrap();
    assert!(matches!(stored.refresh().await, Some(Ok(_))));
    stored.change(change(table("flag"), Expected::Absent)).await.unwrap();
    assert_eq!(stored.action(), "flag");
    assert!(!checking.is_finished(), "it was no long check, or the others waited for it");
}
