//! A tenant file becomes a `Tenant`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::load::{LoadContext, SourceFile, named_as_file, schema_version, tree};
use super::signing;
use super::tenant::{DefaultPlan, RETENTION_DAYS, Redaction, Sla, Tenant};
use crate::domain::action::Action;
use crate::domain::category::{Category, TREE};
use crate::domain::head::TenantFacts;
use crate::domain::id::{BundleName, TenantId};
use crate::domain::overlap::{Prefer, Rule};
use crate::domain::redaction::Style;
use crate::domain::request::Priority;
use crate::outbound::Allow;
use crate::settings::{Rate, Tier, Tiers};
use crate::yaml::fault::Fault;
use crate::yaml::{self, Fields, Source};

/// Reads one file; all its faults at once.
pub(super) fn read(file: &SourceFile, context: &LoadContext<'_>) -> Result<Tenant, Vec<Fault>> {
    let tree = tree(file)?;
    let source = Source { kind: file.kind, file: &file.path };
    let mut fields = Fields::new(&tree, source);
    if fields.node("schema_version").is_none() {
        fields.missing("schema_version");
    }
    schema_version(&mut fields);
    let id = id(&mut fields, file);
    let (policies, default_policy) = policies(&mut fields);
    let (tier_name, tier) = tier(&mut fields, context.tiers);
    let rate_limit = rate_limit(&mut fields);
    let labels: BTreeMap<String, String> = fields.take("labels").unwrap_or_default();
    let fail_mode = fields.take("fail_mode").unwrap_or(Action::Review);
    if !matches!(fail_mode, Action::Review | Action::Block) {
        let message = format!("fail_mode cannot be `{}`", fail_mode.name());
        fields.refuse("fail_mode", "bad_value", message, "write `review` or `block`");
    }
    let mode = fields.take("mode").unwrap_or_default();
    let default_plan = default_plan(&mut fields);
    let everything = || BTreeSet::from(["*".to_owned()]);
    let detectors = fields.take("detectors").unwrap_or_else(everything);
    let thresholds = thresholds(&mut fields);
    let on_incomplete = fields.take("on_incomplete").unwrap_or(Action::Review);
    let on_plan_failure = fields.take("on_plan_failure").unwrap_or_default();
    let sla = sla(&mut fields);
    let max_priority = fields.take("max_priority").unwrap_or(Priority::Critical);
    let content_max_chars = fields.take::<NonZeroUsize>("content_max_chars").map(Into::into);
    let redaction = redaction(&mut fields);
    let allow_ips = allow_ips(&mut fields);
    let signing = signing::read(&mut fields, source, context);
    let audit = fields.take("audit").unwrap_or_default();
    let retention_days = retention_days(&mut fields);
    let prefer_async = fields.take("prefer_async").unwrap_or_default();
    let paused = fields.take("paused").unwrap_or_default();
    let faults = fields.finish();
    let (Some(id), Some(default_policy), true) = (id, default_policy, faults.is_empty()) else {
        return Err(faults);
    };
    Ok(Tenant {
        facts: TenantFacts { id: id.clone(), tier: tier_name.into(), labels: Arc::new(labels) },
        id,
        tier,
        rate_limit,
        policies,
        default_policy,
        mode,
        default_plan,
        detectors,
        thresholds,
        on_incomplete,
        fail_mode,
        on_plan_failure,
        sla,
        max_priority,
        content_max_chars,
        redaction,
        allow_ips,
        signing,
        audit,
        retention_days,
        prefer_async,
        paused,
        source: file.path.clone(),
    })
}

fn id(fields: &mut Fields<'_>, file: &SourceFile) -> Option<TenantId> {
    let id: TenantId = fields.need("id")?;
    named_as_file(fields, "id", id.as_str(), file);
    if id.is_reserved() {
        let message = format!("`id` is `{id}`, as metrics name the tenants without own series");
        fields.refuse("id", "bad_value", message, "choose another id and name the file so");
    }
    Some(id)
}

/// The tier's name, and what it includes under the tenant's own weight.
fn tier(fields: &mut Fields<'_>, tiers: &Tiers) -> (String, Tier) {
    const NOTHING: Tier =
        Tier { requests_per_hour: None, jobs_per_day: None, concurrent: None, weight: 1.0 };
    let name: String = fields.take("tier").unwrap_or_else(|| "starter".to_owned());
    let mut tier = tiers.get(&name).copied().unwrap_or_else(|| {
        let names = tiers.keys().map(String::as_str);
        let hint = match yaml::nearest(&name, names.clone()) {
            Some(near) => format!("write `{near}`, or add the tier to the settings"),
            None => format!("known: {}", names.collect::<Vec<_>>().join(", ")),
        };
        let message = format!("there is no tier `{}`", yaml::shown(&name));
        fields.refuse("tier", "unknown_tier", message, &hint);
        NOTHING
    });
    tier.weight = fields.take("weight").unwrap_or(tier.weight);
    if !(tier.weight > 0.0 && tier.weight <= 1_000_000.0) {
        let message =
            format!("`weight` holds {}, which is not above 0 and at most 1000000", tier.weight);
        fields.refuse("weight", "out_of_range", message, "choose a positive weight");
    }
    (name, tier)
}

fn rate_limit(fields: &mut Fields<'_>) -> Option<Rate> {
    let rate: Option<Rate> = fields.take("rate_limit");
    if rate.is_some_and(|rate| !rate.is_sound()) {
        let message = "per_minute or burst is outside 1..=1000000".to_owned();
        fields.refuse("rate_limit", "out_of_range", message, "choose values inside the range");
    }
    rate
}

fn retention_days(fields: &mut Fields<'_>) -> u32 {
    let days = fields.take("retention_days").unwrap_or(RETENTION_DAYS);
    if !(1..=3_650).contains(&days) {
        let message = format!("`retention_days` holds {days}, which is outside 1..=3650");
        fields.refuse("retention_days", "out_of_range", message, "choose a value inside the range");
    }
    days
}

fn policies(fields: &mut Fields<'_>) -> (Vec<BundleName>, Option<BundleName>) {
    let given: Option<Vec<BundleName>> = fields.take("policies");
    let policies = given.unwrap_or_else(|| BundleName::parse("standard").into_iter().collect());
    if policies.is_empty() {
        let message = "`policies` is empty".to_owned();
        fields.refuse("policies", "bad_value", message, "name at least one bundle");
    }
    let default = fields.take("default_policy").or_else(|| policies.first().cloned());
    if let Some(name) = default.as_ref().filter(|name| !policies.contains(name)) {
        let message = format!("default_policy `{name}` is not among `policies`");
        fields.refuse("default_policy", "bad_value", message, "add it to `policies`");
    }
    (policies, default)
}

fn default_plan(fields: &mut Fields<'_>) -> Option<DefaultPlan> {
    let plan: Option<DefaultPlan> = fields.take("default_plan");
    if let Some(plan) = &plan
        && !(0.0..=1.0).contains(&plan.coverage.threshold)
    {
        let message = "default_plan.coverage.threshold is outside 0..=1".to_owned();
        fields.refuse(
            "/default_plan/coverage/threshold",
            "out_of_range",
            message,
            "choose a value inside the range",
        );
    }
    plan
}

fn thresholds(fields: &mut Fields<'_>) -> BTreeMap<String, f64> {
    let thresholds: BTreeMap<String, f64> = fields.take("thresholds").unwrap_or_default();
    for (name, value) in &thresholds {
        let at = format!("/thresholds/{}", name.replace('~', "~0").replace('/', "~1"));
        if name != "*" && Category::parse(name).is_err() {
            let message = format!("`{}` is not in the category tree", yaml::shown(name));
            let hint = match yaml::nearest(name, TREE.iter().copied()) {
                Some(near) => format!("write `{near}`"),
                None => "use a name of the category table or `*`".to_owned(),
            };
            fields.refuse(&at, "unknown_category", message, &hint);
        }
        if !(0.0..=1.0).contains(value) {
            let message = format!("threshold {value} is outside 0..=1");
            fields.refuse(&at, "out_of_range", message, "choose a value inside the range");
        }
    }
    thresholds
}

fn allow_ips(fields: &mut Fields<'_>) -> Vec<Allow> {
    let given: Vec<String> = fields.take("allow_ips").unwrap_or_default();
    let mut networks = Vec::new();
    for (index, raw) in given.iter().enumerate() {
        match Allow::parse(raw) {
            Ok(net @ Allow::Net(..)) => networks.push(net),
            Ok(Allow::Host(_) | Allow::Port(..)) | Err(_) => {
                let message = format!("`{}` is no address and no network", yaml::shown(raw));
                let at = format!("/allow_ips/{index}");
                fields.refuse(&at, "bad_value", message, "write it like `203.0.113.0/24`");
            }
        }
    }
    networks
}

fn redaction(fields: &mut Fields<'_>) -> Redaction {
    #[derive(Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct File {
        style: Style,
        overlap: Prefer,
        order: Vec<Category>,
    }
    let File { style, overlap, order } = fields.take("redaction").unwrap_or_default();
    Redaction { style, rule: Rule { order, prefer: overlap } }
}

fn sla(fields: &mut Fields<'_>) -> Sla {
    let sla: Sla = fields.take("sla").unwrap_or_default();
    for (at, ms) in [
        ("/sla/critical_ms", sla.critical_ms),
        ("/sla/normal_ms", sla.normal_ms),
        ("/sla/low_ms", sla.low_ms),
    ] {
        if let Some(ms) = ms.filter(|ms| !(10..=300_000).contains(ms)) {
            let message = format!("a deadline of {ms} ms is outside 10..=300000");
            fields.refuse(at, "out_of_range", message, "choose a value inside the range");
        }
    }
    sla
}
