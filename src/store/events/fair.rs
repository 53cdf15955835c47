//! Whose deliveries are next.

use std::collections::HashMap;

use super::Shares;

/// New events that a group is given a row of at once, before it is known which go first.
pub(in crate::store) const ENROLLED_MAX: u32 = 1_000;

/// Of `candidates`, places with their tenants in the order of their turns, at most `most` that their
/// tenants may have out beside what is out.
pub(in crate::store) fn chosen(
    candidates: Vec<(i64, String)>,
    shares: &Shares,
    most: u32,
) -> Vec<i64> {
    let mut out: HashMap<String, u32> =
        shares.out.iter().map(|(tenant, out)| (tenant.to_string(), *out)).collect();
    let fits = |(place, tenant): (i64, String)| {
        let out = out.entry(tenant).or_default();
        let fits = *out < shares.each;
        *out += u32::from(fits);
        fits.then_some(place)
    };
    candidates.into_iter().filter_map(fits).take(most as usize).collect()
}

impl Shares {
    /// Candidates among which there are `most` that fit, if there are so many.
    pub(in crate::store) fn looked_at(&self, most: u32) -> u32 {
        let full = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        most.saturating_add(full.saturating_mul(self.each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TenantId;

    #[test]
    fn who_has_its_share_out_is_passed_over_and_others_get_no_more_than_theirs() {
        let out = [("full", 2), ("half", 1)];
        let out = out.map(|(name, n)| (TenantId::parse(name).unwrap(), n)).into();
        let shares = Shares { each: 2, out };
        let asked = ["full", "half", "free", "half", "free", "free", "full"];
        let asked = (0..).zip(asked.map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(chosen(asked.clone(), &shares, 10), [1, 2, 4]);
        assert_eq!(chosen(asked, &shares, 1), [1]);
        assert_eq!(shares.looked_at(10), 14);
    }
}
