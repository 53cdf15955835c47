//! Tests of the module as a whole, by topic; what they share stands here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::domain::content::Direction;
use crate::domain::coverage::Coverage;
use crate::domain::finding::Severity;
use crate::domain::head::{Head, OptIn, RequestFacts, TenantFacts};
use crate::domain::judgement::ScopeState;
use crate::domain::plan::CoverageMethod;
use crate::domain::request::Priority;

mod apart;
mod decisions;
mod failures;
mod hostile;
mod joined;
mod mutations;
mod opt_in;
mod promise;
mod properties;
mod refusals;
mod reuse;
mod sharing;

pub(super) fn shipped() -> Vec<Source> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut sources = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            sources.push(Source { path: name, bytes: std::fs::read(path).unwrap().into() });
        }
    }
    sources
}

/// A scope that nobody has voted in.
fn flagged() -> ScopeState {
    ScopeState {
        score: 0.5,
        severity: None,
        voters: vec![],
        flagged_by: vec![],
        cleared_by: vec![],
        unjudged_by: vec![],
        candidates: vec![],
        resolved: crate::domain::conflict::Resolved::Flagged,
        settled: None,
        strategy: "weighted_average".into(),
    }
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), bytes: text.as_bytes().into() }
}

fn scope(tenant: &str, bundles: &[&str]) -> TenantScope {
    let bundles = bundles.iter().map(|name| BundleName::parse(name).unwrap()).collect();
    TenantScope { id: TenantId::parse(tenant).unwrap(), bundles }
}

fn scopes() -> Vec<TenantScope> {
    ["default", "acme", "globex"].map(|tenant| scope(tenant, &["standard", "strict"])).into()
}

fn load(sources: &[Source]) -> Policies {
    Policies::load(sources, &scopes(), &Limits::default(), None).unwrap().policies
}

fn view(policies: &Policies, tenant: &str, bundle: &str) -> Arc<View> {
    let bundle = BundleName::parse(bundle).unwrap();
    policies.view(&TenantId::parse(tenant).unwrap(), &bundle).unwrap().clone()
}

fn head(tenant: &str) -> Head {
    Head {
        tenant: TenantFacts {
            id: TenantId::parse(tenant).unwrap(),
            tier: "unlimited".into(),
            labels: Arc::default(),
        },
        bundle: BundleName::parse("standard").unwrap(),
        env: "development",
        request: RequestFacts {
            content_type: ContentType::Text,
            direction: Direction::Input,
            roles: vec![],
            tool_names: vec![],
            has_context: false,
            priority: Priority::Normal,
            event: None,
            contexts: vec![],
            only: vec![],
            add: vec![],
            exclude: vec![],
            thresholds: BTreeMap::new(),
        },
        opt_in: OptIn::default(),
    }
}

fn finding(id: u32, category: &str) -> JudgedFinding {
    JudgedFinding {
        id,
        category: Category::parse(category).unwrap(),
        label: "X".into(),
        score: 0.9,
        severity: Severity::Medium,
        detectors: vec![DetectorName::parse("pii").unwrap()],
        place: None,
        pointer: None,
        view: None,
        attributes: BTreeMap::from([("domain".into(), "globex.com".into())]),
        standing: true,
    }
}

fn coverage(complete: bool) -> Coverage {
    Coverage {
        method: CoverageMethod::RequiredSet,
        threshold: 1.0,
        achieved: if complete { 1.0 } else { 0.5 },
        complete,
        floor_complete: true,
        code: None,
        required: vec![],
        missing: vec![],
        unjudged: vec![],
    }
}

fn facts() -> Arc<[DetectorFacts]> {
    let version: Arc<str> = "1".into();
    let types = BTreeSet::from([ContentType::Text]);
    let categories = BTreeSet::from([Category::parse("pii").unwrap()]);
    let names = ["pii", "secrets", "tox"].map(|name| DetectorName::parse(name).unwrap());
    let facts = names.into_iter().map(|name| DetectorFacts {
        name,
        version: version.clone(),
        protocol: "builtin",
        types: types.clone(),
        categories: categories.clone(),
        cost: 1.0,
        weight: 1.0,
    });
    facts.collect()
}

async fn plan(
    evaluator: &Evaluator,
    view: &Arc<View>,
    tenant: &str,
) -> Result<Arc<PlanAnswer>, Failure> {
    evaluator.plan(view, &head(tenant), &facts(), None).await
}

async fn judge(view: &Arc<View>, tenant: &str, categories: &[&str]) -> Arc<VerdictAnswer> {
    let evaluator = Evaluator::new(Limits::default());
    verdict(&evaluator, view, tenant, categories).await.unwrap()
}

async fn verdict(
    evaluator: &Evaluator,
    view: &Arc<View>,
    tenant: &str,
    categories: &[&str],
) -> Result<Arc<VerdictAnswer>, Failure> {
    let findings: Vec<JudgedFinding> =
        categories.iter().zip(0..).map(|(name, id)| finding(id, name)).collect();
    let judgement = Judgement { findings: findings.clone(), ..Judgement::default() };
    let coverage = coverage(true);
    let facts =
        VerdictFacts { judgement: &judgement, raw: &findings, reports: &[], coverage: &coverage };
    evaluator.verdict(view, &head(tenant), &facts).await
}

fn said(answer: &VerdictAnswer) -> Vec<String> {
    let entry = |entry: &crate::domain::verdict::Entry| {
        format!("{} {}: {} [{}]", entry.action.name(), entry.code, entry.reason, entry.layer)
    };
    answer.rules.entries.iter().chain(&answer.rules.floor).map(entry).collect()
}
