//! Random changes of files and stored overlays against a model: nobody is held up by another
//! tenant's overlay, and no overlay is lost in silence.

use proptest::prelude::*;

use crate::domain::id::{BundleName, TenantId};
use crate::store::{Expected, Place, Sqlite, SqliteOptions, Store};

use super::*;

/// What the operator wrote into the bundle.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bundle {
    /// With a rule that overlays may read.
    Helpful,
    /// Without it.
    Plain,
    /// No Rego at all.
    Faulty,
}

/// What a tenant stored, or the operator wrote for it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Content {
    /// A table that fits whatever lies below.
    Table,
    /// A rule that reads the bundle's.
    Reads,
    /// What no API wrote.
    Garbage,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The bundle's files change.
    Write(Bundle),
    /// The operator's own overlay for tenant `c`.
    File(bool),
    /// Another instance stores or deletes.
    Elsewhere(usize, Option<Content>),
    /// The tenant itself does.
    Change(usize, Option<Content>),
}

const TENANTS: [&str; 2] = ["a", "b"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bundle = prop_oneof![Just(Bundle::Helpful), Just(Bundle::Plain), Just(Bundle::Faulty)];
    let content = prop_oneof![Just(Content::Table), Just(Content::Reads), Just(Content::Garbage)];
    let content = prop::option::of(content);
    let step = prop_oneof![
        3 => bundle.prop_map(Step::Write),
        1 => any::<bool>().prop_map(Step::File),
        3 => (0..2usize, content.clone()).prop_map(|(who, content)| Step::Elsewhere(who, content)),
        3 => (0..2usize, content).prop_map(|(who, content)| Step::Change(who, content)),
    ];
    prop::collection::vec(step, 1..14)
}

/// What should serve.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Served {
    bundle: Bundle,
    file: bool,
    stored: [Option<Content>; 2],
}

impl Served {
    fn is_broken(&self, who: usize) -> bool {
        breaks(self.stored[who], self.bundle)
    }

    /// Whether the operator's own files are sound.
    fn is_sound(&self) -> bool {
        self.bundle == Bundle::Helpful || (self.bundle == Bundle::Plain && !self.file)
    }
}

fn breaks(content: Option<Content>, bundle: Bundle) -> bool {
    match content {
        None | Some(Content::Table) => false,
        Some(Content::Reads) => bundle != Bundle::Helpful,
        Some(Content::Garbage) => true,
    }
}

struct World {
    project: Project,
    store: Arc<dyn Store>,
    live: Arc<Live>,
    /// What lies on disk and in the store.
    there: Served,
    /// What serves.
    served: Served,
}

fn reading(tenant: &str) -> String {
    format!("package tenants.{tenant}.standard\n\nblock contains \"x\" if data.standard.helps\n")
}

fn body(content: Content, tenant: &str) -> String {
    match content {
        Content::Table => {
            serde_json::json!({"modules": [], "data": {"settings": {"actions": {"pii": "block"}}}})
                .to_string()
        }
        Content::Reads => {
            serde_json::json!({"modules": [{"path": "r.rego", "rego": reading(tenant)}]})
                .to_string()
        }
        Content::Garbage => "no json".into(),
    }
}

fn name(who: usize) -> (TenantId, BundleName) {
    (TenantId::parse(TENANTS[who]).unwrap(), BundleName::parse("standard").unwrap())
}

impl World {
    fn new() -> Self {
        let project = Project::new();
        for folder in ["policies", "config/tenants"] {
            std::fs::remove_dir_all(project.path(folder)).unwrap();
        }
        let write = |path: &str, text: &str| {
            let path = project.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for tenant in ["a", "b", "c"] {
            let text = format!("schema_version: 1\nid: {tenant}\npolicies: [standard]\n");
            write(&format!("config/tenants/{tenant}.yaml"), &text);
        }
        write("policies/base/data.yaml", "settings: {}\n");
        write("policies/floor/floor.rego", "package floor\n\nmin_coverage := 0.0\n");
        let served = Served { bundle: Bundle::Helpful, file: false, stored: [None; 2] };
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap());
        write("policies/standard/verdict.rego", Self::bundle(Bundle::Helpful));
        let sources = project.sources();
        let first = Snapshot::load(&sources, &project.settings, None).unwrap();
        let live = Arc::new(Live::new(first, sources, Some(Arc::clone(&store))));
        Self { project, store, live, there: served, served }
    }

    fn bundle(bundle: Bundle) -> &'static str {
        match bundle {
            Bundle::Helpful => {
                "package standard\n\nblock contains \"no\" if false\n\nhelps if input.findings\n"
            }
            Bundle::Plain => "package standard\n\nblock contains \"no\" if false\n",
            Bundle::Faulty => "package standard\n\nblock contains\n",
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Write(bundle) => {
                let path = self.project.path("policies/standard/verdict.rego");
                std::fs::write(path, Self::bundle(bundle)).unwrap();
                self.there.bundle = bundle;
            }
            Step::File(exists) => {
                let folder = self.project.path("policies/tenants/c/standard");
                let _ = std::fs::remove_dir_all(&folder);
                if exists {
                    std::fs::create_dir_all(&folder).unwrap();
                    std::fs::write(folder.join("r.rego"), reading("c")).unwrap();
                }
                self.there.file = exists;
            }
            Step::Elsewhere(who, content) => {
                let (tenant, bundle) = name(who);
                let key = key(&tenant, &bundle);
                match content {
                    Some(content) => {
                        let body = body(content, TENANTS[who]);
                        drop(self.store.put(key, body, Expected::Any).await.unwrap());
                    }
                    // Deleting what is not there fails.
                    None => drop(self.store.delete(key, Expected::Any).await),
                }
                self.there.stored[who] = content;
            }
            Step::Change(who, content) => return self.change(who, content).await,
        }
        self.look().await;
    }

    async fn look(&mut self) {
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.project.settings));
        let seen = tokio::task::spawn_blocking(move || live.refresh(&settings)).await.unwrap();
        match self.there.is_sound() {
            true => self.served = self.there,
            false => assert!(!matches!(seen, Some(Ok(_))), "{:?} was accepted", self.there),
        }
    }

    async fn change(&mut self, who: usize, content: Option<Content>) {
        let (tenant, bundle) = name(who);
        let audit = audited(&tenant);
        let body = content.map(|content| body(content, TENANTS[who]));
        let change = Change { tenant, bundle, body, expected: Expected::Any, audit };
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.project.settings));
        let done =
            tokio::task::spawn_blocking(move || live.change(change, &settings, &|_, _| Vec::new()))
                .await;
        let done = done.unwrap();
        // Held against what serves: a file at fault is not the tenant's.
        let good = match content {
            Some(_) => !breaks(content, self.served.bundle),
            None => self.there.stored[who].is_some(),
        };
        assert_eq!(done.is_ok(), good, "{content:?} over {:?}: {:?}", self.served, done.err());
        if good {
            self.there.stored[who] = content;
            self.served.stored[who] = content;
        }
        self.look().await;
    }

    fn holds(&self) {
        let snapshot = self.live.current();
        for who in 0..2 {
            let (tenant, bundle) = name(who);
            let view = snapshot.policies.view(&tenant, &bundle).expect("a policy is never lost");
            let broken = self.served.is_broken(who);
            assert_eq!(view.is_broken(), broken, "{who} of {:?}", self.served);
            assert_eq!(snapshot.broken.contains_key(&(tenant, bundle)), broken);
            let has = view.layers().iter().any(|layer| layer.starts_with("tenants."));
            let wanted = self.served.stored[who].is_some() && !broken;
            assert_eq!(has, wanted, "{who} of {:?}: {:?}", self.served, view.layers());
        }
        let told = snapshot.warnings.iter().filter(|fault| fault.code == "overlay_broken").count();
        assert_eq!(told, snapshot.broken.len(), "{:#?}", snapshot.warnings);
        let faults = self.live.generations().faults;
        assert_eq!(faults.is_empty(), self.there.is_sound(), "{:?}: {faults:#?}", self.there);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_breaks_for_its_tenant_alone_and_never_in_silence(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.step(step).await;
                world.holds();
            }
        });
    }
}
