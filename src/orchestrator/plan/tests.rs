//! What a request may wish, over random plans and wishes.

use proptest::prelude::*;

use super::*;
use crate::domain::access::Scopes;
use crate::domain::category::Category;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const CATEGORIES: [&str; 7] =
    ["*", "toxicity", "toxicity.insult", "toxicity.threat", "pii", "pii.email", "hate"];

fn detector(name: &str) -> DetectorName {
    DetectorName::parse(name).unwrap()
}

fn some_names() -> impl Strategy<Value = Vec<DetectorName>> {
    proptest::collection::vec(proptest::sample::select(&NAMES[..]).prop_map(detector), 0..4)
}

fn some_thresholds() -> impl Strategy<Value = Thresholds> {
    let name = proptest::sample::select(&CATEGORIES[..]).prop_map(str::to_owned);
    let value = (0..=10u8).prop_map(|tenths| f64::from(tenths) / 10.0);
    proptest::collection::btree_map(name, value, 0..4)
}

/// Sets that the policy's plan keeps apart.
fn some_plan() -> impl Strategy<Value = Plan> {
    let sets = (some_names(), some_names(), some_names(), some_names(), some_thresholds());
    sets.prop_map(|(floor, required, optional, secondary, thresholds)| {
        let floor_required: BTreeSet<_> = floor.into_iter().collect();
        let required: BTreeSet<_> = required.into_iter().chain(floor_required.clone()).collect();
        let optional: BTreeSet<_> =
            optional.into_iter().filter(|name| !required.contains(name)).collect();
        let secondary = secondary
            .into_iter()
            .filter(|name| !required.contains(name) && !optional.contains(name));
        let secondary = secondary.collect();
        Plan { required, floor_required, optional, secondary, thresholds, ..Plan::default() }
    })
}

fn some_wishes() -> impl Strategy<Value = DetectorWishes> {
    (some_names(), some_names(), some_names(), some_thresholds()).prop_map(
        |(only, add, exclude, thresholds)| DetectorWishes {
            only,
            add,
            exclude,
            thresholds,
            params: BTreeMap::new(),
        },
    )
}

fn caller(may_relax: bool) -> Caller {
    let scopes = if may_relax { Scopes::ALL } else { Scopes::NONE };
    Caller { scopes, ..Caller::development() }
}

fn wished(
    plan: &Plan,
    wishes: &DetectorWishes,
    tenant: &Thresholds,
    may_relax: bool,
) -> Result<Plan, Error> {
    let mut plan = plan.clone();
    wish(wishes, tenant, &caller(may_relax), &mut plan)?;
    Ok(plan)
}

fn effective(plan: &Plan, tenant: &Thresholds) -> Vec<f64> {
    let categories = crate::domain::category::TREE.iter();
    categories.map(|name| plan.threshold(&Category::parse(name).unwrap(), tenant)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn no_wish_removes_what_the_floor_requires(
        plan in some_plan(), wishes in some_wishes(), tenant in some_thresholds(),
    ) {
        let after = wished(&plan, &wishes, &tenant, true).unwrap();
        prop_assert!(after.required.is_superset(&plan.floor_required));
        prop_assert_eq!(&after.floor_required, &plan.floor_required);
        prop_assert_eq!(after.min_coverage, plan.min_coverage);
    }

    #[test]
    fn without_the_scope_wishes_only_tighten(
        plan in some_plan(), wishes in some_wishes(), tenant in some_thresholds(),
    ) {
        let free = wished(&plan, &wishes, &tenant, true).unwrap();
        match wished(&plan, &wishes, &tenant, false) {
            Ok(after) => {
                prop_assert!(after.relaxed.is_empty());
                prop_assert!(after.required.is_superset(&plan.required));
                let (before, now) = (effective(&plan, &tenant), effective(&after, &tenant));
                for (before, now) in before.iter().zip(&now) {
                    prop_assert!(now <= before, "{} is above {}", now, before);
                }
                prop_assert_eq!(after, free);
            }
            Err(error) => {
                prop_assert_eq!(error.code, Code::InsufficientScope);
                let named: Vec<_> = error.details.into_iter().map(|d| d.pointer).collect();
                prop_assert_eq!(named, free.relaxed);
            }
        }
    }

    #[test]
    fn a_lowered_threshold_is_what_was_wished(
        plan in some_plan(), thresholds in some_thresholds(), tenant in some_thresholds(),
    ) {
        let wishes = DetectorWishes { thresholds, ..DetectorWishes::default() };
        let after = wished(&plan, &wishes, &tenant, true).unwrap();
        for (name, wanted) in wishes.thresholds.iter().filter(|(name, _)| *name != "*") {
            let category = Category::parse(name).unwrap();
            prop_assert_eq!(after.threshold(&category, &tenant), *wanted);
        }
    }

    #[test]
    fn every_detector_is_in_one_set_and_the_order_of_wishes_does_not_matter(
        plan in some_plan(), wishes in some_wishes(), tenant in some_thresholds(),
    ) {
        let after = wished(&plan, &wishes, &tenant, true).unwrap();
        prop_assert!(after.required.is_disjoint(&after.optional));
        prop_assert!(after.required.is_disjoint(&after.secondary));
        prop_assert!(after.optional.is_disjoint(&after.secondary));
        let mut turned = wishes.clone();
        for list in [&mut turned.only, &mut turned.add, &mut turned.exclude] {
            list.reverse();
        }
        let mut other = wished(&plan, &turned, &tenant, true).unwrap();
        // Pointers hold positions, so only they may differ.
        prop_assert_eq!(other.relaxed.len(), after.relaxed.len());
        other.relaxed.clone_from(&after.relaxed);
        prop_assert_eq!(other, after);
    }

    #[test]
    fn unknown_names_are_named_where_they_stand(
        wishes in some_wishes(), known in proptest::collection::btree_set(0..NAMES.len(), 0..6),
    ) {
        let visible: Visible<()> = known.iter().map(|at| (detector(NAMES[*at]), ())).collect();
        let lists = [("only", &wishes.only), ("add", &wishes.add), ("exclude", &wishes.exclude)];
        let unknown: Vec<String> = lists
            .iter()
            .flat_map(|(list, names)| names.iter().enumerate().map(move |at| (list, at)))
            .filter(|(_, (_, name))| !visible.contains_key(*name))
            .map(|(list, (index, _))| format!("/detectors/{list}/{index}"))
            .collect();
        let named = match check_names(&wishes, &visible) {
            Ok(()) => Vec::new(),
            Err(error) => error.details.into_iter().map(|d| d.pointer).collect(),
        };
        prop_assert_eq!(named, unknown);
    }
}

#[test]
fn parameters_of_a_planned_detector_need_the_scope_and_those_of_others_do_not() {
    let params = |of: &str| DetectorWishes {
        params: BTreeMap::from([(detector(of), serde_json::json!({"entities": []}))]),
        ..DetectorWishes::default()
    };
    let plan = Plan {
        required: [detector("a"), detector("c")].into(),
        floor_required: [detector("c")].into(),
        optional: [detector("b")].into(),
        ..Plan::default()
    };
    let none = Thresholds::default();
    for name in ["a", "b"] {
        let refused = wished(&plan, &params(name), &none, false).unwrap_err();
        assert_eq!(refused.details[0].pointer, format!("/detectors/params/{name}"));
        let done = wished(&plan, &params(name), &none, true).unwrap();
        assert_eq!(done.relaxed, [format!("/detectors/params/{name}")]);
    }
    for name in ["c", "d"] {
        assert!(wished(&plan, &params(name), &none, false).unwrap().relaxed.is_empty(), "{name}");
    }
}
