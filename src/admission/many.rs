//! Many requests at once, as those of a job: all of them pass every limit, or none is counted.

use std::time::Duration;

use super::windows::step;
use super::{Admission, Bucket, Counted, Entrant, Level, Moment, Refused, used};
use crate::domain::error::{Code, Error};
use crate::settings::{Rate, Tier};

/// What is taken for them: tokens of the tenant's and the route's rate, tokens of the key's, where
/// the request that brings them has paid the rest already; and the quota's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spending {
    /// Requests in all.
    pub requests: u32,
    /// Of the tenant's rate, and of the route's.
    pub tenant: u32,
    /// Of the key's rate.
    pub key: u32,
}

impl Spending {
    fn of(&self, bucket: Bucket<'_>) -> u32 {
        match bucket {
            Bucket::Tenant(_) | Bucket::Route { .. } => self.tenant,
            Bucket::Key(_) => self.key,
        }
    }
}

impl Admission {
    /// Counts them against the quota of the hour and every rate, or against nothing. Whoever is told
    /// to wait finds room for all of them then, unless others take it.
    pub fn spend(
        &self,
        who: Entrant<'_>,
        limits: &Tier,
        (spending, now): (Spending, Moment),
    ) -> (Option<Level>, Result<Counted, Refused>) {
        let Some((tenant, _)) = who.tenant else { return (None, Ok(Counted { burst: false })) };
        let quota = limits.requests_per_hour.filter(|_| self.enforces);
        if let Some(quota) = quota
            && spending.requests > quota.saturating_add(used::burst(quota))
        {
            let what = format!("the tenant may have {quota} judged in an hour");
            return (None, Err(never(spending, &what)));
        }
        let Some(burst) = self.used.of(tenant).spend(now.hour(), spending.requests, quota) else {
            return (None, Err(self.over_quota(tenant, quota, now)));
        };
        let (level, taken) = self.tokens(who, (spending, now));
        if taken.is_err() {
            self.used.of(tenant).unspend(now.hour(), spending.requests);
        }
        (level, taken.map(|()| Counted { burst }))
    }

    /// Takes back what [`Self::spend`] counted at that moment, for what is not judged.
    pub fn unspend(&self, who: Entrant<'_>, (spending, then): (Spending, Moment)) {
        let Some((tenant, _)) = who.tenant else { return };
        self.used.of(tenant).unspend(then.hour(), spending.requests);
        if self.enforces {
            let all = self.asked(who).into_iter().flatten();
            all.for_each(|(b, rate)| self.windows.give_back(b, rate, spending.of(b)));
        }
    }

    fn tokens(
        &self,
        who: Entrant<'_>,
        (spending, now): (Spending, Moment),
    ) -> (Option<Level>, Result<(), Refused>) {
        if !self.enforces {
            return (None, Ok(()));
        }
        let asked = self.asked(who);
        let small = |(_, rate): &&(Bucket<'_>, Rate)| spending.requests > rate.burst();
        if let Some((_, rate)) = asked.iter().flatten().find(small) {
            let what = format!("the rate lets {} pass at once", rate.burst());
            return (None, Err(never(spending, &what)));
        }
        let mut last = None;
        for (at, ask) in asked.iter().enumerate() {
            let Some((bucket, rate)) = *ask else { continue };
            let count = spending.of(bucket);
            if count == 0 {
                continue;
            }
            let level = self.windows.take(bucket, rate, count, now.at);
            if let Some(wait) = level.wait {
                let taken = asked.iter().take(at).flatten();
                taken.for_each(|(b, rate)| self.windows.give_back(*b, *rate, spending.of(*b)));
                // The request that brings them again pays its own part first.
                let own = Duration::from_nanos(step(rate)) * (spending.requests - count);
                let refused = self.too_often(who, bucket, (rate, wait + own), now);
                return (Some(level), Err(refused));
            }
            last = Some(level);
        }
        (last, Ok(()))
    }
}

/// What no waiting helps.
fn never(spending: Spending, what: &str) -> Refused {
    let detail = format!(
        "holds {} requests, but {what}; send smaller batches, or have the limit raised",
        spending.requests
    );
    let error = Error::field(Code::BatchTooLarge, "/requests", "too_long", detail);
    Refused { error, wait: Duration::ZERO }
}
