//! Who asks for what and when: tenants, jobs and the numbers behind both, all from one seed.

use crate::domain::id::TenantId;
use crate::domain::job::{JobId, JobKey, JobType};
use crate::domain::request::Priority;
use crate::jobs::turns::Share;
use crate::store::NewJob;

/// Where virtual time begins, milliseconds since 1970.
pub(super) const BEGIN_MS: i64 = 1_800_000_000_000;

/// Numbers that look random and are the same at each run of a seed (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(super) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    /// From 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, of: f64) -> bool {
        self.unit() < of
    }

    /// Milliseconds, exponentially spread around `mean`.
    pub(super) fn around(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean as f64) as u64
    }

    fn uuid(&mut self) -> uuid::Uuid {
        let (high, low) = (self.next(), self.next());
        uuid::Uuid::from_u64_pair(high, low)
    }
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub jobs: usize,
    pub tenants: usize,
    pub instances: usize,
    /// Of each instance.
    pub workers: usize,
    /// Tenants looked at of each priority.
    pub window: u32,
    pub seed: u64,
}

impl Size {
    /// Jobs a second that all workers carry out, where each takes a second.
    pub(super) fn capacity(self) -> u64 {
        (self.instances * self.workers) as u64
    }
}

/// One who asks.
#[derive(Debug)]
pub(super) struct Tenant {
    pub id: TenantId,
    pub share: Share,
}

/// Tenants that ask for as much as everyone else of their weight together would wait for.
const GREEDY: usize = 3;

/// Everyone, and what they ask for.
#[derive(Debug)]
pub(super) struct Load {
    pub tenants: Vec<Tenant>,
    size: Size,
    random: Random,
    weights: f64,
    made: usize,
}

impl Load {
    pub(super) fn new(size: Size) -> Load {
        let tenants: Vec<Tenant> = (0..size.tenants).map(tenant).collect();
        let weights = tenants.iter().map(|tenant| tenant.share.weight).sum();
        Load { tenants, size, random: Random(size.seed ^ 0x10ad), weights, made: 0 }
    }

    pub(super) fn share(&self, tenant: &TenantId) -> Option<Share> {
        self.tenants.get(number(tenant)).map(|tenant| tenant.share)
    }

    /// The next job and how long after the one before it comes; `None` after the last.
    ///
    /// The first half floods in within some seconds, from everyone by weight, so that all have a
    /// backlog; the other half comes in the time that the first half takes, of every priority.
    pub(super) fn next(&mut self, now_ms: i64) -> Option<(u64, NewJob)> {
        let (half, capacity) = (self.size.jobs / 2, self.size.capacity());
        if self.made == self.size.jobs {
            return None;
        }
        let flood = self.made < half;
        let rest = if flood { half as f64 / 10_000.0 } else { 0.8 * capacity as f64 / 1_000.0 };
        let after = self.random.around(1_000_000) as f64 / 1_000_000.0 / rest;
        self.made += 1;
        // Now and then one tenant has many urgent jobs at once, far more than it may have at once.
        let burst = !flood && self.random.chance(0.05);
        let tenant = match flood {
            true => self.flooding(),
            false if burst => {
                Random((now_ms / 2_000).cast_unsigned()).below(self.size.tenants as u64)
            }
            false => self.random.below(self.size.tenants as u64),
        };
        let priority = match self.random.below(20) {
            _ if flood => Priority::Normal,
            _ if burst => Priority::Critical,
            0..2 => Priority::Critical,
            2..5 => Priority::High,
            5..14 => Priority::Normal,
            14..18 => Priority::Low,
            _ => Priority::Batch,
        };
        let id = JobId::of(self.random.uuid());
        let tenant = self.tenants[usize::try_from(tenant).unwrap()].id.clone();
        let (put_off, hurried) = (self.random.chance(0.03), self.random.chance(0.02));
        let wait = self.random.around(60_000).cast_signed();
        let expires = now_ms + if hurried { 120_000 } else { 24 * 3_600_000 };
        let job = NewJob {
            of: JobKey { tenant, id },
            job_type: JobType::Orchestrate,
            priority,
            cost: if priority == Priority::Batch { 10 } else { 1 },
            payload: Vec::new(),
            callback: None,
            not_before_ms: (put_off && !flood).then_some(now_ms + wait),
            expires_at_ms: Some(expires + if put_off { wait } else { 0 }),
            key: None,
            most_a_day: None,
            actor: "caller".into(),
            begun_by: None,
        };
        Some((after.round() as u64, job))
    }

    /// One tenant, the heavier the likelier; the greedy ask for a twentieth of everything.
    fn flooding(&mut self) -> u64 {
        if self.random.chance(0.05) {
            return self.random.below(GREEDY as u64);
        }
        loop {
            let tenant = self.random.below(self.tenants.len() as u64);
            let weight = self.tenants[usize::try_from(tenant).unwrap()].share.weight;
            if self.random.chance(weight / 10.0) {
                return tenant;
            }
        }
    }

    /// The sum of all weights.
    pub(super) fn weights(&self) -> f64 {
        self.weights
    }
}

/// Number `n` by tiers as shipped: of ten one is enterprise, two professional, the rest starters. The
/// greedy have the lightest weight and no limit.
fn tenant(n: usize) -> Tenant {
    let (weight, at_once) = match n % 10 {
        _ if n < GREEDY => (1.0, None),
        3 => (10.0, Some(50)),
        4 | 5 => (3.0, Some(10)),
        _ => (1.0, Some(2)),
    };
    let id = TenantId::parse(&format!("t{n:05}")).unwrap();
    Tenant { id, share: Share { weight, at_once } }
}

/// Which tenant.
pub(super) fn number(tenant: &TenantId) -> usize {
    tenant.as_str()[1..].parse().unwrap()
}

/// Whether it asks for more than its share.
pub(super) fn is_greedy(tenant: usize) -> bool {
    tenant < GREEDY
}
