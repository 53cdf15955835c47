//! Random operations against a small model written from docs/state-machine.md.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::domain::digest::Digest;
use crate::store::contract::claims::Pass;

/// One job by definition; times are minutes of the model.
#[derive(Debug, Clone)]
struct Row {
    key: JobKey,
    state: &'static str,
    version: u64,
    attempts: u32,
    fence: u64,
    worker: Option<usize>,
    resting_until: u64,
    not_before: u64,
    expires: Option<u64>,
    payload: bool,
    result: Option<(u64, Vec<u8>)>,
    completed_by: Option<u64>,
    ended: u64,
}

#[derive(Default)]
struct Model {
    minute: u64,
    rows: Vec<Row>,
    alive: BTreeMap<usize, u64>,
}

impl Row {
    fn go(&mut self, to: &'static str, minute: u64) {
        (self.state, self.version, self.ended) = (to, self.version + 1, minute);
        if to != "running" {
            self.worker = None;
        }
        self.payload &= !matches!(to, "completed" | "cancelled");
    }

    fn ready(&self, now: u64) -> bool {
        self.state == "queued"
            && self.not_before <= now
            && self.resting_until <= now
            && self.expires.is_none_or(|at| at > now)
    }
}

impl Model {
    fn deed(&mut self, at: usize, deed: Deed, version: Option<u64>) -> &'static str {
        let now = self.minute;
        let row = &mut self.rows[at];
        if version.is_some_and(|version| version != row.version) {
            return "changed";
        }
        match (deed, row.state) {
            (Deed::Pause, "queued") | (Deed::Cancel, "queued" | "running" | "paused") => {}
            (Deed::Pause, "running") => row.attempts -= 1,
            (Deed::Resume, "paused") => {}
            (Deed::Requeue, "failed") if !row.payload => return "erased",
            (Deed::Requeue, "failed") => (row.attempts, row.expires) = (0, None),
            _ => return "illegal",
        }
        let to = match deed {
            Deed::Pause => "paused",
            Deed::Resume | Deed::Requeue => "queued",
            Deed::Cancel => "cancelled",
        };
        row.go(to, now);
        "done"
    }

    fn end(&mut self, at: usize, fence: u64, ending: &Ending) -> bool {
        let now = self.minute;
        let row = &mut self.rows[at];
        if row.state != "running" || row.fence != fence {
            return matches!(ending, Ending::Completed(_)) && row.completed_by == Some(fence);
        }
        let to = match ending {
            Ending::Completed(result) => {
                row.result = Some((now, result.clone()));
                row.completed_by = Some(fence);
                "completed"
            }
            Ending::Failed(_) => "failed",
            Ending::Again(_, rest) => {
                row.resting_until = now + rest.as_secs() / 60;
                "queued"
            }
            Ending::HandedBack => {
                row.attempts -= 1;
                "queued"
            }
            Ending::PutOff(_, rest) => {
                row.attempts -= 1;
                row.resting_until = now + rest.as_secs() / 60;
                "queued"
            }
        };
        row.go(to, now);
        true
    }

    fn take(&mut self, worker: usize, most: usize) -> Vec<usize> {
        let now = self.minute;
        if !self.alive.contains_key(&worker) {
            return Vec::new();
        }
        let ready = self.rows.iter_mut().enumerate().filter(|(_, row)| row.ready(now)).take(most);
        ready
            .map(|(at, row)| {
                (row.attempts, row.fence, row.worker) =
                    (row.attempts + 1, row.fence + 1, Some(worker));
                row.resting_until = 0;
                row.go("running", now);
                at
            })
            .collect()
    }

    fn recover(&mut self) -> u64 {
        let (now, alive) = (self.minute, &self.alive);
        let lost = self.rows.iter_mut().filter(|row| {
            row.state == "running" && row.worker.is_none_or(|worker| !alive.contains_key(&worker))
        });
        lost.map(|row| row.go(if row.attempts >= 3 { "failed" } else { "queued" }, now)).count()
            as u64
    }

    fn expire(&mut self) -> u64 {
        let now = self.minute;
        let late = self.rows.iter_mut().filter(|row| {
            matches!(row.state, "queued" | "paused") && row.expires.is_some_and(|at| at <= now)
        });
        late.map(|row| {
            row.go("failed", now);
            row.payload = false;
        })
        .count() as u64
    }

    fn erase(&mut self) -> u64 {
        let (now, day) = (self.minute, 24 * 60);
        let mut erased = 0;
        for row in &mut self.rows {
            if row.result.as_ref().is_some_and(|(at, _)| at + day <= now) {
                row.result = None;
                erased += 1;
            }
            if row.state == "failed" && row.payload && row.ended + 7 * day <= now {
                row.payload = false;
                erased += 1;
            }
        }
        erased
    }
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

/// What store and model say, and what was asked.
type Said = (&'static str, String, String);

struct World<'s, 'p> {
    store: &'s dyn Store,
    model: Model,
    lives: [WorkerId; 2],
    pass: Pass<'p>,
    random: Numbers,
}

impl World<'_, '_> {
    /// One random operation; `None` where there was nothing to ask.
    async fn ask(&mut self) -> Option<Said> {
        let op = self.random.below(24);
        let none = self.model.rows.is_empty();
        match op {
            0..5 => Some(self.add().await),
            5..10 => Some(self.take().await),
            10..15 if !none => Some(self.end().await),
            15..19 if !none => Some(self.deed().await),
            19 => Some(self.worker().await),
            20..22 => Some(self.upkeep().await),
            22..24 => {
                let minutes = if self.random.below(12) == 0 { 4 * 24 * 60 } else { 10 };
                self.model.minute += minutes;
                (self.pass)(minutes).await;
                None
            }
            _ => None,
        }
    }

    async fn add(&mut self) -> Said {
        let (minute, now) = (60_000, self.model.minute);
        let (wait, life) = (self.random.below(4) / 3 * 30, self.random.below(5));
        let expires = (life == 0).then_some(now + 90);
        let job = NewJob {
            not_before_ms: (wait > 0).then(|| now_ms() + wait.cast_signed() * minute),
            expires_at_ms: expires.map(|_| now_ms() + 90 * minute),
            ..new_job("model")
        };
        let key = added(self.store, job).await.of;
        self.model.rows.push(Row {
            key,
            state: "queued",
            version: 1,
            attempts: 0,
            fence: 0,
            worker: None,
            resting_until: 0,
            not_before: now + wait,
            expires,
            payload: true,
            result: None,
            completed_by: None,
            ended: now,
        });
        ("add", String::new(), String::new())
    }

    async fn take(&mut self) -> Said {
        let (who, most) = (self.random.index(2), 1 + self.random.index(2));
        let most_jobs = u32::try_from(most).unwrap();
        let taken = take(self.store, self.lives[who], "model", most_jobs).await;
        let found: Vec<_> = taken.iter().map(|one| (&one.job.of, one.lease.fence)).collect();
        let expected = self.model.take(who, most);
        let rows = expected.iter().map(|at| &self.model.rows[*at]);
        let expected: Vec<_> = rows.map(|row| (&row.key, row.fence)).collect();
        ("take", format!("{found:?}"), format!("{expected:?}"))
    }

    async fn end(&mut self) -> Said {
        let rows = &self.model.rows;
        let running: Vec<_> = (0..rows.len()).filter(|at| rows[*at].state == "running").collect();
        let any = self.random.index(rows.len());
        let at = if running.is_empty() { any } else { running[self.random.index(running.len())] };
        let (key, fence) = (rows[at].key.clone(), rows[at].fence);
        let fence = if self.random.below(4) == 0 { fence.saturating_sub(1) } else { fence };
        let ending = match self.random.below(9) {
            0..3 => Ending::Completed(vec![u8::try_from(self.random.below(200)).unwrap()]),
            3 => Ending::Failed(error("X")),
            4..6 => Ending::Again(error("Y"), Duration::from_secs(self.random.below(3) * 20 * 60)),
            6 => Ending::PutOff(error("Z"), Duration::from_secs(self.random.below(3) * 20 * 60)),
            _ => Ending::HandedBack,
        };
        let expected = self.model.end(at, fence, &ending);
        let found = self.store.end_attempt(Lease { of: key, fence }, ending).await.unwrap();
        ("end", found.to_string(), expected.to_string())
    }

    async fn deed(&mut self) -> Said {
        let at = self.random.index(self.model.rows.len());
        let deed = Deed::ALL[self.random.index(Deed::ALL.len())];
        let row = &self.model.rows[at];
        let version = (self.random.below(3) == 0).then(|| row.version - self.random.below(2));
        let wish = Move { version, ..wish(&row.key, deed) };
        let found = match self.store.move_job(wish).await.unwrap() {
            Moved::Done(_) => "done",
            Moved::Missing => "missing",
            Moved::Changed(_) => "changed",
            Moved::Illegal(_) => "illegal",
            Moved::Erased => "erased",
        };
        ("deed", found.into(), self.model.deed(at, deed, version).into())
    }

    async fn worker(&mut self) -> Said {
        let who = self.random.index(2);
        let (worker, beats) = (self.lives[who], self.model.alive.get(&who).copied());
        if self.random.below(4) > 0 {
            let held = self.store.beat(worker).await.unwrap();
            let found =
                held.map(|all| all.into_iter().map(|one| (one.of, one.fence)).collect::<Vec<_>>());
            let expected = beats.map(|beats| {
                self.model.alive.insert(who, beats + 1);
                let own = self.model.rows.iter().filter(|row| row.worker == Some(who));
                let mut own: Vec<_> = own.map(|row| (row.key.clone(), row.fence)).collect();
                own.sort_by_key(|(key, _)| key.id);
                own
            });
            return ("worker", format!("{found:?}"), format!("{expected:?}"));
        }
        let Some(beats) = beats else {
            // Back under another name; what it held is nobody's.
            self.lives[who] = entered(self.store).await;
            let rows = self.model.rows.iter_mut();
            rows.for_each(|row| row.worker = row.worker.filter(|worker| *worker != who));
            self.model.alive.insert(who, 0);
            return ("worker", String::new(), String::new());
        };
        let late = self.random.below(2);
        let found = self.store.bury(worker, beats.wrapping_sub(late)).await.unwrap();
        if late == 0 {
            self.model.alive.remove(&who);
        }
        ("worker", found.to_string(), (late == 0).to_string())
    }

    async fn upkeep(&mut self) -> Said {
        let (found, expected) = match self.random.below(3) {
            0 => (self.store.recover_jobs(1000).await, self.model.recover()),
            1 => (self.store.expire_jobs(1000).await, self.model.expire()),
            _ => (self.store.erase_jobs(1000).await, self.model.erase()),
        };
        ("upkeep", found.unwrap().to_string(), expected.to_string())
    }
}

/// On an empty `store`: nothing else must move jobs there.
pub(in crate::store) async fn equal_the_model(store: &dyn Store, pass: Pass<'_>, steps: u32) {
    let lives = [entered(store).await, entered(store).await];
    let alive = BTreeMap::from([(0, 0), (1, 0)]);
    let model = Model { alive, ..Model::default() };
    let mut world = World { store, model, lives, pass, random: Numbers(0x9e37_79b9_7f4a_7c15) };
    let mut met = BTreeMap::<String, u32>::new();
    for step in 0..steps {
        let Some((op, found, expected)) = world.ask().await else { continue };
        assert_eq!(found, expected, "step {step}, {op}");
        let kind = if matches!(op, "end" | "deed") { found.as_str() } else { "" };
        *met.entry(format!("{op} {kind}")).or_default() += 1;
        if step % 250 == 0 || step + 1 == steps {
            for row in &world.model.rows {
                agrees(store, row).await;
            }
            // Those that ended long ago are left behind.
            world.model.rows.retain(|row| row.state != "cancelled");
        }
    }
    let mut events = events_by_source(store).await;
    for row in &world.model.rows {
        let moves = store.transitions(row.key.clone(), 0, 1000).await.unwrap();
        let ids: Vec<_> = moves.iter().map(|one| one.event_id(row.key.id)).collect();
        let told = events.remove(&format!("job/{}", row.key.id)).unwrap();
        assert_eq!(told, ids, "one event for each move, in order");
    }
    for kind in [
        "end true",
        "end false",
        "deed done",
        "deed changed",
        "deed illegal",
        "deed erased",
        "worker ",
        "upkeep ",
        "take ",
    ] {
        assert!(met.contains_key(kind), "{kind} was never met: {met:?}");
    }
}

async fn events_by_source(store: &dyn Store) -> BTreeMap<String, Vec<Digest>> {
    while store.number_events(1000).await.unwrap() > 0 {}
    let (mut found, mut after) = (BTreeMap::<_, Vec<_>>::new(), 0);
    loop {
        let more = store.events(Stream::All, after, 1000).await.unwrap();
        let Some(last) = more.last() else { return found };
        after = last.global;
        for told in more {
            found.entry(told.event.source).or_default().push(told.event.id);
        }
    }
}

async fn agrees(store: &dyn Store, row: &Row) {
    let job = job(store, &row.key).await;
    let found = (job.state.name(), job.version, job.attempts, job.has_payload);
    assert_eq!(found, (row.state, row.version, row.attempts, row.payload), "{row:?}");
    let result = store.job_result(row.key.clone()).await.unwrap();
    assert_eq!(result, row.result.as_ref().map(|(_, bytes)| bytes.clone()), "{row:?}");
}
