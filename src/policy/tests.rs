//! Tests of the module as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::domain::content::Direction;
use crate::domain::coverage::Coverage;
use crate::domain::finding::Severity;
use crate::domain::head::{Head, RequestFacts, TenantFacts};
use crate::domain::plan::CoverageMethod;
use crate::domain::request::Priority;

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
        code: None,
        required: vec![],
        missing: vec![],
        unjudged: vec![],
    }
}

fn detectors() -> Arc<[DetectorFacts]> {
    let facts = |name: &str, category: &str| DetectorFacts {
        name: DetectorName::parse(name).unwrap(),
        version: "1".into(),
        protocol: "builtin",
        types: vec![ContentType::Text],
        categories: vec![Category::parse(category).unwrap()],
        cost: 1.0,
        weight: 1.0,
        labels: vec![],
    };
    [facts("pii", "pii"), facts("secrets", "secrets"), facts("tox", "toxicity")].into()
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

#[tokio::test]
async fn the_standard_bundle_redacts_and_blocks_by_its_table() {
    let policies = load(&shipped());
    let standard = view(&policies, "default", "standard");
    let answer =
        judge(&standard, "default", &["pii.email", "secrets.aws_access_key", "pii.url"]).await;
    assert_eq!(
        said(&answer),
        [
            "flag pii.url: web address noted [standard]",
            "redact pii.email: e-mail address redacted [standard]",
            "redact secrets.aws_access_key: secret redacted [standard]",
        ]
    );
    let answer = judge(&standard, "default", &["toxicity.insult", "violence"]).await;
    assert_eq!(
        said(&answer),
        [
            "flag violence: violence noted [standard]",
            "block toxicity.insult: toxic language not allowed [standard]",
        ]
    );
}

#[tokio::test]
async fn overlays_differ_by_rego_or_by_table_alone() {
    let policies = load(&shipped());
    let acme = judge(&view(&policies, "acme", "standard"), "acme", &["secrets.token"]).await;
    assert_eq!(
        said(&acme),
        [
            "redact secrets.token: secret redacted [standard]",
            "block secrets.token: acme: no secrets [tenants.acme.standard]",
        ]
    );
    let globex = view(&policies, "globex", "standard");
    let answer = judge(&globex, "globex", &["secrets.token", "pii.email"]).await;
    assert_eq!(answer.rules.ignore.iter().collect::<Vec<_>>(), [&1]);
    assert_eq!(said(&answer)[1], "block secrets.token: secret not allowed [standard]");
    assert!(Arc::ptr_eq(&globex.unit, &view(&policies, "default", "standard").unit));
    assert_eq!(globex.provenance()["actions.secrets"], "tenants.globex.standard");
}

#[tokio::test]
async fn the_floor_speaks_on_raw_findings_even_where_the_layers_are_silent() {
    let policies = load(&shipped());
    let evaluator = Evaluator::new(Limits::default());
    let raw = [finding(0, "secrets.private_key")];
    let (judgement, coverage) = (Judgement::default(), coverage(true));
    let facts =
        VerdictFacts { judgement: &judgement, raw: &raw, reports: &[], coverage: &coverage };
    let standard = view(&policies, "default", "standard");
    let answer = evaluator.verdict(&standard, &head("default"), &facts).await.unwrap();
    assert!(answer.rules.entries.is_empty());
    assert_eq!(said(&answer), ["redact secrets.private_key: private key redacted [floor]"]);
}

#[tokio::test]
async fn equal_plans_are_asked_once() {
    let policies = load(&shipped());
    let evaluator = Evaluator::new(Limits::default());
    let globex = view(&policies, "globex", "standard");
    let plan = evaluator.plan(&globex, &head("globex"), &detectors(), None).await.unwrap();
    let names =
        |set: &BTreeSet<DetectorName>| set.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&plan.required), ["pii", "secrets"]);
    assert_eq!(names(&plan.optional), ["pii", "secrets", "tox"]);
    assert_eq!(plan.resolve["toxicity"].quorum, Some(2));
    assert_eq!(plan.thresholds["toxicity"], 0.7);
    assert_eq!(plan.floor.on_incomplete, Some(Action::Flag));
    let again = evaluator.plan(&globex, &head("globex"), &detectors(), None).await.unwrap();
    assert!(Arc::ptr_eq(&plan, &again));
    evaluator.plan(&globex, &head("acme"), &detectors(), None).await.unwrap();
    let counts = evaluator.memo_counts(Point::Plan);
    assert_eq!((counts.hits, counts.misses), (1, 2));
}
