//! How many more jobs tenants may have running.

use std::collections::BTreeMap;

use crate::store::Pick;

/// What is left of the limits that picks name.
pub(in crate::store) struct Room<'a>(BTreeMap<&'a str, u32>);

impl<'a> Room<'a> {
    /// All of the limits that `picks` name; of several for one tenant the smallest.
    pub fn of(picks: &'a [Pick]) -> Room<'a> {
        let mut room = BTreeMap::new();
        for pick in picks {
            let Some(most) = pick.at_once else { continue };
            let left = room.entry(pick.tenant.as_str()).or_insert(most);
            *left = most.min(*left);
        }
        Room(room)
    }

    /// The tenants with a limit, in the order in which everybody must lock them.
    pub fn tenants(&self) -> Vec<&'a str> {
        self.0.keys().copied().collect()
    }

    /// So many run of `tenant`'s.
    pub fn run(&mut self, tenant: &str, running: u32) {
        if let Some(left) = self.0.get_mut(tenant) {
            *left = left.saturating_sub(running);
        }
    }

    /// How many jobs `pick` may have now.
    pub fn for_pick(&self, pick: &Pick) -> u32 {
        self.0.get(pick.tenant.as_str()).map_or(pick.most, |left| pick.most.min(*left))
    }
}
