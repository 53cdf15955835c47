//! Who is next, through a store, a crew and its one worker: the order in which jobs are carried out.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::admission::fairness::jain;
use crate::auth::Caller;
use crate::bus::Local;
use crate::domain::id::{RequestId, TenantId};
use crate::domain::job::{JobId, JobKey, JobType};
use crate::domain::request::Priority;
use crate::jobs::webhook::Webhooks;
use crate::jobs::{Asker, Crew, Payload, Perform, Task, Wish, run};
use crate::metrics::Metrics;
use crate::outbound::{Env, Guard};
use crate::seal::{DataKeys, Key};
use crate::settings::Settings;
use crate::snapshot::{Live, Snapshot, Sources};
use crate::store::{Place, Sqlite, SqliteOptions, Store};

/// Who was served, in order.
type Served = Rc<RefCell<Vec<(String, Priority)>>>;

struct Shop {
    _dir: tempfile::TempDir,
    crew: Arc<Crew>,
    live: Arc<Live>,
}

impl Shop {
    /// One worker, and three tenants that differ in their weight alone.
    fn new() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        crate::assets::write_to(dir.path()).unwrap();
        for (tenant, weight) in [("one", 1), ("three", 3), ("ten", 10)] {
            let file = dir.path().join(format!("config/tenants/{tenant}.yaml"));
            let text = format!(
                "schema_version: 1\nid: {tenant}\ntier: unlimited\nweight: {weight}\npolicies: [standard]\n"
            );
            std::fs::write(file, text).unwrap();
        }
        let mut settings = Settings::default();
        settings.jobs.workers = 1;
        let sources = Sources::of(&settings, Some(dir.path()), |_| Ok(()));
        let first = Snapshot::load(&sources, &settings, None).unwrap();
        let live = Arc::new(Live::new(first, sources, None));
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap());
        let keys = DataKeys::new(&Key::from_bytes([1; 32]), None).unwrap();
        let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
        let crew = Crew::new(
            (store, Arc::new(Local::default())),
            (keys, Key::from_bytes([2; 32])),
            metrics,
            settings.jobs.clone(),
        );
        Shop { _dir: dir, crew: Arc::new(crew), live }
    }

    async fn add(crew: &Crew, tenant: &str, priority: Priority) {
        let payload = Payload {
            asker: Asker::from(&Caller::development()),
            request_id: RequestId::parse("r-1").unwrap(),
            no_store: false,
            trace: None,
            data: json!({}),
        };
        let of = JobKey {
            tenant: TenantId::parse(tenant).unwrap(),
            id: JobId::of(uuid::Uuid::now_v7()),
        };
        let wish = Wish {
            of,
            job_type: JobType::Orchestrate,
            priority,
            cost: 1,
            payload,
            callback: None,
            not_before_ms: None,
            key: None,
            most_a_day: None,
            begun: false,
        };
        crew.add(wish, "test").await.unwrap();
    }

    /// Carries jobs out until `most` were served; before each, `first` may ask for more.
    async fn serve(
        &self,
        most: usize,
        first: impl AsyncFn(usize) + 'static,
    ) -> Vec<(String, Priority)> {
        let (served, done) = (Served::default(), Rc::new(Notify::new()));
        let first = Rc::new(first);
        let perform: Perform = {
            let (served, done) = (Rc::clone(&served), Rc::clone(&done));
            Rc::new(move |task: Task| {
                let (served, done, first) =
                    (Rc::clone(&served), Rc::clone(&done), Rc::clone(&first));
                async move {
                    let count = served.borrow().len();
                    first(count).await;
                    served.borrow_mut().push((task.job.of.tenant.to_string(), task.job.priority));
                    if served.borrow().len() == most {
                        done.notify_one();
                    }
                    Ok(json!({}))
                }
                .boxed_local()
            })
        };
        let webhooks = Webhooks::new(Arc::new(Guard::new(Env::Development, Vec::new())));
        let work = run(Arc::clone(&self.crew), Arc::clone(&self.live), perform, webhooks);
        let stop = async {
            done.notified().await;
            self.crew.stop();
        };
        LocalSet::new().run_until(async { tokio::join!(work, stop) }).await;
        let mut served = served.borrow().clone();
        served.truncate(most);
        served
    }
}

#[tokio::test]
async fn weights_10_3_1_are_served_100_30_and_10_of_the_first_140_jobs_in_the_store() {
    let shop = Shop::new();
    // The lightest come first, so that the order of arrival would serve them.
    for tenant in ["one", "three", "ten"] {
        for _ in 0..120 {
            Shop::add(&shop.crew, tenant, Priority::Normal).await;
        }
    }
    let served = shop.serve(140, async |_| {}).await;
    let counts = ["ten", "three", "one"]
        .map(|tenant| served.iter().filter(|(name, _)| name == tenant).count());
    let off = counts.iter().zip([100, 30, 10]).map(|(found, share)| found.abs_diff(share));
    assert!(off.max() <= Some(1), "{counts:?}");
    let shares: Vec<f64> =
        counts.iter().zip([10.0, 3.0, 1.0]).map(|(count, weight)| *count as f64 / weight).collect();
    assert!(jain(&shares) >= 0.99, "{shares:?}");
}

#[tokio::test]
async fn a_critical_job_behind_a_full_backlog_of_low_ones_in_the_store_is_the_very_next() {
    let shop = Shop::new();
    for _ in 0..300 {
        Shop::add(&shop.crew, "ten", Priority::Low).await;
    }
    let crew = Arc::clone(&shop.crew);
    let urgent = async move |count: usize| {
        if count == 20 {
            Shop::add(&crew, "one", Priority::Critical).await;
        }
    };
    let served = shop.serve(25, urgent).await;
    let at = served.iter().position(|(_, priority)| *priority == Priority::Critical);
    assert_eq!(at, Some(21), "{served:?}");
}
