use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::*;
use crate::domain::id::TenantId;
use crate::domain::request::Priority;

impl Slots {
    async fn take(&self, claim: Claim<'_>, until: Instant) -> Result<Slot<'_>, Shed> {
        match self.at_once() {
            Some(slot) => Ok(slot),
            None => self.turn(claim, until).await,
        }
    }
}

fn slots(limit: usize, queue_max: usize) -> Arc<Slots> {
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    Arc::new(Slots::new(Concurrency::Fixed(limit), queue_max, metrics))
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn claim(tenant: &TenantId, priority: Priority) -> Claim<'_> {
    Claim { tenant, priority, weight: 1.0, cost: 1.0 }
}

const SECOND: Duration = Duration::from_secs(1);

fn soon() -> Instant {
    Instant::now() + SECOND
}

fn depth(slots: &Slots) -> f64 {
    let text = slots.metrics.render().unwrap();
    let lines = text.lines().filter(|line| line.starts_with("orchestrator_queue_depth{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(start_paused = true)]
async fn with_one_slot_and_five_low_waiting_a_critical_one_starts_second() {
    let slots = slots(1, 1_000);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let low = [Priority::Low; 5].into_iter().chain([Priority::Critical]);
    for (number, priority) in low.enumerate() {
        let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
        tasks.spawn(async move {
            let slot = slots.take(claim(&tenant("a"), priority), soon() + SECOND * 9).await;
            let slot = slot.unwrap();
            lock(&order).push(number);
            tokio::time::sleep(SECOND).await;
            drop(slot);
        });
        tokio::task::yield_now().await;
    }
    tasks.join_all().await;
    assert_eq!(*lock(&order), [0, 5, 1, 2, 3, 4]);
    assert_eq!((slots.running.load(Ordering::SeqCst), depth(&slots)), (0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_leaves_at_its_deadline_and_not_before() {
    let slots = slots(1, 10);
    let a = tenant("a");
    let _first = slots.take(claim(&a, Priority::Low), soon()).await.unwrap();
    let began = Instant::now();
    let shed = slots.take(claim(&a, Priority::Critical), began + SECOND * 2).await;
    assert_eq!((shed.unwrap_err(), began.elapsed().as_secs()), (Shed::Deadline, 2));
    assert_eq!((slots.waiting.load(Ordering::SeqCst), depth(&slots)), (0, 0.0));
    let text = slots.metrics.render().unwrap();
    let line = r#"shed_total{priority="critical",reason="deadline"} 1"#;
    assert!(text.contains(line), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_sheds_the_least_urgent_at_once() {
    let slots = slots(1, 2);
    let a = tenant("a");
    let _first = slots.take(claim(&a, Priority::Normal), soon()).await.unwrap();
    let mut normal = Box::pin(slots.take(claim(&a, Priority::Normal), soon()));
    let mut low = Box::pin(slots.take(claim(&a, Priority::Low), soon()));
    assert!(normal.as_mut().now_or_never().is_none() && low.as_mut().now_or_never().is_none());
    let batch = slots.take(claim(&a, Priority::Batch), soon()).now_or_never();
    assert_eq!(batch.unwrap().unwrap_err(), Shed::QueueFull);
    let mut high = Box::pin(slots.take(claim(&a, Priority::High), soon()));
    assert!(high.as_mut().now_or_never().is_none());
    assert_eq!(low.now_or_never().unwrap().unwrap_err(), Shed::QueueFull);
    assert!(normal.as_mut().now_or_never().is_none(), "it was shed before a lesser one");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_takes_no_slot_with_it() {
    let slots = slots(1, 10);
    let a = tenant("a");
    let first = slots.take(claim(&a, Priority::Normal), soon()).await.unwrap();
    let mut waits = Box::pin(slots.take(claim(&a, Priority::Normal), soon()));
    let mut gone = Box::pin(slots.take(claim(&a, Priority::Normal), soon()));
    assert!(waits.as_mut().now_or_never().is_none() && gone.as_mut().now_or_never().is_none());
    drop(gone);
    assert_eq!(depth(&slots), 1.0);
    drop(first);
    // The slot is handed over, but nobody reads the answer any more.
    drop(waits);
    assert_eq!(slots.running.load(Ordering::SeqCst), 0);
    assert!(slots.take(claim(&a, Priority::Low), soon()).now_or_never().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_late_thread_lowers_the_limit_and_a_raised_one_lets_those_in_who_wait() {
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    let slots = Slots::new(Concurrency::Auto, 10, metrics);
    let a = tenant("a");
    let mut at = Instant::now();
    for _ in 0..60 {
        at += SECOND;
        slots.note(SECOND, at);
    }
    let mut held = Vec::new();
    for _ in 0..super::super::pace::FLOOR {
        held.push(slots.take(claim(&a, Priority::Low), at + SECOND).now_or_never().unwrap());
    }
    let mut waits = Box::pin(slots.take(claim(&a, Priority::Low), Instant::now() + SECOND));
    assert!(waits.as_mut().now_or_never().is_none(), "there are more than the least");
    slots.note(Duration::ZERO, at + SECOND);
    assert!(waits.now_or_never().is_some_and(|slot| slot.is_ok()));
}

/// Four threads, two slots: nobody is lost, nobody beyond the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_together_hold_no_more_than_the_limit_and_all_are_served() {
    let slots = slots(2, 10_000);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for number in 0..2_000_usize {
        let (slots, inside, most) = (Arc::clone(&slots), Arc::clone(&inside), Arc::clone(&most));
        tasks.spawn(async move {
            let a = tenant(["a", "b", "c"][number % 3]);
            let until = Instant::now() + SECOND * 600;
            let slot = slots.take(claim(&a, Priority::ALL[number % 5]), until).await;
            let slot = slot.unwrap();
            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(slot);
        });
    }
    assert_eq!(tasks.join_all().await.len(), 2_000);
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    assert_eq!((slots.running.load(Ordering::SeqCst), depth(&slots)), (0, 0.0));
}

/// Five times what two slots can do, for a minute: what is answered, by priority and tenant.
#[tokio::test(start_paused = true)]
async fn under_five_times_the_load_all_slots_work_and_the_urgent_and_the_calm_are_answered() {
    // 2 slots of 10 ms: 200 a second; 1000 a second come, 900 of them of one tenant.
    let slots = slots(2, 100);
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for number in 0..20_000_u32 {
        let slots = Arc::clone(&slots);
        let due = began + Duration::from_millis(1) * number;
        let name = if number.is_multiple_of(10) { "calm" } else { "noisy" };
        let priority = match number % 40 {
            7 => Priority::Critical,
            n if n % 2 == 0 => Priority::Normal,
            _ => Priority::Low,
        };
        tasks.spawn(async move {
            tokio::time::sleep_until(due).await;
            let id = tenant(name);
            let slot = slots.take(claim(&id, priority), due + SECOND).await;
            let waited = due.elapsed();
            if slot.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (name, priority.name(), slot.is_ok().then_some(waited))
        });
    }
    let mut of = BTreeMap::<_, (usize, usize, Duration)>::new();
    for (name, priority, waited) in tasks.join_all().await {
        let (asked, served, longest) = of.entry((priority, name)).or_default();
        *asked += 1;
        *served += usize::from(waited.is_some());
        *longest = waited.unwrap_or_default().max(*longest);
    }
    let served: usize = of.values().map(|(_, served, _)| served).sum();
    assert!(served >= 3_900, "{served} of the 4000 that two slots can: {of:?}");
    let (asked, answered, longest) = of[&("critical", "noisy")];
    assert_eq!(asked, answered, "{of:?}");
    assert!(longest <= Duration::from_millis(20), "a critical one waited {longest:?}");
    let (asked, answered, _) = of[&("normal", "calm")];
    assert!(answered * 100 >= asked * 85, "the calm tenant is within its share: {of:?}");
    assert!(of[&("low", "noisy")].1 <= 2, "only while a slot was free: {of:?}");
}
