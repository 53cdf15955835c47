//! Several instances over one PostgreSQL, one Redis and one NATS, and callers who hand jobs in: each keeps
//! a ledger of what was acknowledged, which is held against what the database, the bus and the detector
//! know in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::access::BOOT;
use crate::app::{HttpClient, client};
use crate::binary::Served;
use crate::idempotency::attach;
use crate::shared::{migrated, orchestrator};
use crate::{nats_server, postgres, redis_server};

mod kills;
mod limits;
mod live;

/// Whatever is waited for comes within this on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
/// Jobs that may wait before callers hand in more: a debug build on two cores is slow.
const WAITING_MAX: u64 = 40;
/// What a job holds, before its number.
const MARK: &str = "mail ana@evil.io about job ";

/// A detector service that knows which jobs it was asked about, and how often.
pub struct Judge {
    pub server: MockServer,
    asked: Arc<Mutex<HashMap<u64, u64>>>,
}

impl Judge {
    pub async fn start(delay: Duration) -> Judge {
        let server = MockServer::builder().disable_request_recording().start().await;
        let asked: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let reply = move |request: &Request| {
            let text = String::from_utf8_lossy(&request.body);
            for after in text.split(MARK).skip(1) {
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                *seen.lock().unwrap().entry(digits.parse().unwrap()).or_default() += 1;
            }
            ResponseTemplate::new(200).set_body_json(json!({"findings": []})).set_delay(delay)
        };
        Mock::given(any()).respond_with(reply).mount(&server).await;
        Judge { server, asked }
    }

    /// How many jobs it was asked about, and how often in all.
    fn asked(&self) -> (u64, u64) {
        let asked = self.asked.lock().unwrap();
        (asked.len() as u64, asked.values().sum())
    }
}

/// Where an instance lives, however often it is started.
struct Place {
    dir: tempfile::TempDir,
    address: String,
}

/// What instances share, and their places.
pub struct Topology {
    pub postgres: postgres::Server,
    pub redis: redis_server::Server,
    pub nats: nats_server::Server,
    pub judge: Arc<Judge>,
    pub database: String,
    redis_url: String,
    places: Vec<Place>,
    env: Vec<(&'static str, String)>,
}

impl Topology {
    /// Starts what is shared; of the instances none. `env` is theirs.
    pub async fn new(instances: usize, env: &[(&'static str, &str)]) -> Topology {
        let (postgres, redis) = (postgres::Server::start(), redis_server::Server::start());
        let database = migrated(&postgres);
        let judge = Arc::new(Judge::start(Duration::from_millis(30)).await);
        let place = |_| {
            let dir = tempfile::tempdir().unwrap();
            detector_orchestrator::assets::write_to(dir.path()).unwrap();
            attach(dir.path(), &judge.server);
            Place { dir, address: free() }
        };
        let places = (0..instances).map(place).collect();
        let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (redis_url, nats) = (redis.url(), nats_server::Server::start());
        Topology { postgres, redis, nats, judge, database, redis_url, places, env }
    }

    /// The same, whose instances may do in Redis what they need and nothing else.
    pub fn narrow(mut self) -> Topology {
        self.redis_url = self.redis.narrow_url();
        self
    }

    pub fn addresses(&self) -> Vec<String> {
        self.places.iter().map(|place| place.address.clone()).collect()
    }

    /// Starts one instance at its place. Blocks.
    pub fn start(&self, instance: usize) -> Served {
        let place = &self.places[instance];
        let args = ["serve", "--listen", &place.address];
        let mut serve = orchestrator(place.dir.path(), &self.database, &args);
        serve.env("ORCHESTRATION_REDIS_URL", &self.redis_url);
        serve.env("ORCHESTRATION_NATS_URL", self.nats.url());
        serve.env("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[127.0.0.1]");
        serve.env("ORCHESTRATION_SECURITY__TRUSTED_PROXIES", "[127.0.0.1]");
        serve.env("ORCHESTRATION_SECURITY__RATE_LIMIT__PER_MINUTE", "1000000");
        serve.env("ORCHESTRATION_SECURITY__RATE_LIMIT__BURST", "1000000");
        // Who is silent on a busy machine is not dead.
        serve.env("ORCHESTRATION_JOBS__LEASE", "3s");
        serve.env("ORCHESTRATION_DATABASE__CONNECTION_WAIT", "2s");
        serve.envs(self.env.iter().map(|(name, value)| (*name, value)));
        let mut served = tokio::task::block_in_place(|| Served::start(serve));
        served.discard_output();
        served
    }

    pub fn start_all(&self) -> Vec<Served> {
        (0..self.places.len()).map(|instance| self.start(instance)).collect()
    }

    /// What PostgreSQL says, as the owner: fields of lines apart by `|`.
    pub fn sql(&self, sql: &str) -> Vec<String> {
        let name = self.database.rsplit('/').next().unwrap();
        self.postgres.sql(name, sql).lines().map(str::to_owned).collect()
    }
}

pub fn free() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

/// A job of the default tenant about no. `number`.
pub fn numbered(number: u64) -> Value {
    let content = format!("{MARK}{number}.");
    let data = json!({"content": content, "detectors": {"add": ["vendor"]}, "timeout_ms": 20_000});
    // Five tries: who is hit by one kill after another still comes to its end.
    json!({"job_type": "orchestrate", "priority": "high", "job_data": data})
}

/// What a caller heard.
pub enum Heard {
    Answer(u16, String),
    /// Nobody answered, or the answer broke off: it may have been taken in.
    Nothing,
}

/// Hands `job` in at `address`, as `key` where there is one.
pub async fn hand_in(
    client: &HttpClient,
    (address, credential): (&str, &str),
    job: &Value,
    key: Option<&str>,
) -> Heard {
    let mut request = hyper::Request::post(format!("http://{address}/api/v1/jobs"))
        .header("content-type", "application/json")
        .header("x-api-key", credential);
    if credential == BOOT {
        request = request.header("x-tenant-id", "default");
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let request = request.body(Full::new(Bytes::from(job.to_string()))).unwrap();
    let Ok(response) = client.request(request).await else { return Heard::Nothing };
    let status = response.status().as_u16();
    let Ok(body) = response.into_body().collect().await else { return Heard::Nothing };
    Heard::Answer(status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// What callers were told of the jobs that they handed in.
#[derive(Default)]
pub struct Ledger {
    next: AtomicU64,
    /// Number by id, of those answered 202.
    taken: Mutex<BTreeMap<String, u64>>,
    pub refused: AtomicU64,
    pub cut_off: AtomicU64,
}

impl Ledger {
    pub fn take(&self, number: u64, answer: &str) {
        let told: Value = serde_json::from_str(answer).unwrap();
        let id = told["job_id"].as_str().unwrap().to_owned();
        assert_eq!(self.taken.lock().unwrap().insert(id, number), None, "an id was given twice");
    }

    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    pub fn acknowledged(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Whether more wait than a debug build should be given.
    pub fn is_full(&self, judge: &Judge) -> bool {
        self.acknowledged() as u64 > judge.asked().0 + WAITING_MAX
    }

    /// Waits until so many more jobs are acknowledged.
    pub async fn more(&self, count: usize) {
        let (before, begun) = (self.acknowledged(), Instant::now());
        while self.acknowledged() < before + count {
            assert!(begun.elapsed() < SOON, "no job is taken in");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until everything came to its end, and holds the ledger against what is known of it: each
    /// acknowledged job once completed, told once, judged at least once; and no job twice.
    pub async fn settle(&self, topology: &Topology) -> String {
        let pending = "SELECT (SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'paused')) \
                       + (SELECT count(*) FROM events WHERE NOT published)";
        let begun = Instant::now();
        while topology.sql(pending) != ["0"] {
            let states = "SELECT state, count(*) FROM jobs GROUP BY 1";
            assert!(begun.elapsed() < SOON, "no end: {:?}", topology.sql(states));
            sleep(Duration::from_millis(50)).await;
        }
        let taken = self.taken.lock().unwrap().clone();
        let ended: BTreeSet<String> =
            topology.sql("SELECT job FROM completions").into_iter().collect();
        let lost: Vec<_> = taken.keys().filter(|id| !ended.contains(*id)).collect();
        let unseen = {
            let asked = topology.judge.asked.lock().unwrap();
            taken.values().filter(|number| !asked.contains_key(number)).count()
        };
        // The table holds one completion of a job at most: a second end would be a second event.
        let twice = topology.sql(
            "SELECT source FROM events WHERE event_type IN ('job_completed', 'job_failed', \
             'job_cancelled') GROUP BY source HAVING count(*) > 1",
        );
        let told = topology.sql(
            "SELECT count(*) FROM jobs WHERE state = 'completed' AND 1 = (SELECT count(*) \
             FROM events WHERE source = 'job/' || jobs.id AND event_type = 'job_completed')",
        );
        assert_eq!((lost.len(), unseen, twice.len()), (0, 0, 0), "lost {lost:?}, twice {twice:?}");
        let jobs = topology.sql("SELECT count(*) FROM jobs");
        assert_eq!((&told, ended.len().to_string()), (&jobs, jobs[0].clone()), "not each once");
        let (judged, calls) = topology.judge.asked();
        assert_eq!(jobs[0], judged.to_string(), "a job was taken in twice under one key");
        let carried = self.carried(topology).await;
        format!(
            "of {} jobs acknowledged 0 lost, 0 with two ends; {} taken in beside them without an \
             answer, {} refused, {} answers that did not come; {calls} calls for {judged} jobs; \
             {carried} events, each in NATS once",
            taken.len(),
            judged - taken.len() as u64,
            self.refused.load(Relaxed),
            self.cut_off.load(Relaxed),
        )
    }

    /// Waits until NATS holds every event of a job, each once; how many.
    async fn carried(&self, topology: &Topology) -> usize {
        let sql = "SELECT encode(id, 'hex') FROM events WHERE source LIKE 'job/%'";
        let known: BTreeSet<String> = topology.sql(sql).into_iter().collect();
        let begun = Instant::now();
        loop {
            let held = topology.nats.held().await;
            let ids: BTreeSet<String> = held.iter().map(|held| held.id.clone()).collect();
            assert_eq!(ids.len(), held.len(), "an id is in NATS twice");
            let missing = known.difference(&ids).count();
            if missing == 0 {
                return known.len();
            }
            assert!(begun.elapsed() < SOON, "{missing} of {} events are missing", known.len());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Callers who hand jobs in at each instance in turn.
pub struct Callers {
    pub ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Callers {
    /// So many; every third gives its jobs a key, and asks again until it knows what became of them.
    pub fn start(count: usize, topology: &Topology) -> Callers {
        let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let one = |caller| {
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            let (addresses, judge) = (topology.addresses(), Arc::clone(&topology.judge));
            tokio::spawn(call((caller, addresses), (ledger, judge), stop))
        };
        let running = (0..count).map(one).collect();
        Callers { ledger, stop, running }
    }

    pub async fn end(self) -> Arc<Ledger> {
        self.stop.store(true, Relaxed);
        for one in self.running {
            one.await.unwrap();
        }
        self.ledger
    }
}

async fn call(
    (caller, addresses): (usize, Vec<String>),
    (ledger, judge): (Arc<Ledger>, Arc<Judge>),
    stop: Arc<AtomicBool>,
) {
    let (client, mut turn) = (client(), caller);
    while !stop.load(Relaxed) {
        if ledger.is_full(&judge) {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        let number = ledger.number();
        let key = caller.is_multiple_of(3).then(|| format!("job-{number}"));
        let begun = Instant::now();
        loop {
            let at = (&*addresses[turn % addresses.len()], BOOT);
            turn += 1;
            match hand_in(&client, at, &numbered(number), key.as_deref()).await {
                Heard::Answer(202, text) => {
                    ledger.take(number, &text);
                    break;
                }
                // 409: it is being taken in, or whoever did so was killed.
                Heard::Answer(503 | 409, _) => ledger.refused.fetch_add(1, Relaxed),
                Heard::Answer(other, text) => panic!("{other}: {text}"),
                Heard::Nothing => ledger.cut_off.fetch_add(1, Relaxed),
            };
            sleep(Duration::from_millis(20)).await;
            if key.is_none() {
                break;
            }
            assert!(begun.elapsed() < SOON, "{key:?} is never answered");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_notices_a_lost_job_a_second_end_and_one_that_was_never_judged() {
    let topology = Topology::new(1, &[]).await;
    let _served = topology.start_all();
    let callers = Callers::start(3, &topology);
    callers.ledger.more(6).await;
    let ledger = callers.end().await;
    println!("{}", ledger.settle(&topology).await);
    let job = topology.sql("SELECT job FROM completions LIMIT 1").remove(0);
    let notices = async |harm: &str, mend: &str| {
        topology.sql(harm);
        let settled = AssertUnwindSafe(ledger.settle(&topology)).catch_unwind().await;
        assert!(settled.is_err(), "not noticed: {harm}");
        topology.sql(mend);
        ledger.settle(&topology).await;
    };
    let event = "tenant, event_type, at_ms, source, data, tells, sequence, own_sequence, published";
    let again = format!(
        "INSERT INTO events (id, {event}) SELECT sha256('again'), tenant, 'job_failed', at_ms, \
         source, data, tells, 1000000, 1000000, true FROM events \
         WHERE source = 'job/{job}' AND event_type = 'job_completed'"
    );
    notices(&again, "DELETE FROM events WHERE sequence = 1000000").await;
    let lost = format!("UPDATE completions SET job = 'x' WHERE job = '{job}'");
    notices(&lost, &format!("UPDATE completions SET job = '{job}' WHERE job = 'x'")).await;
    let number = ledger.taken.lock().unwrap()[&job];
    topology.judge.asked.lock().unwrap().remove(&number).unwrap();
    let settled = AssertUnwindSafe(ledger.settle(&topology)).catch_unwind().await;
    assert!(settled.is_err(), "an acknowledged job was never judged");
}
