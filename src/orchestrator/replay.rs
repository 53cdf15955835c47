//! Decides again what was recorded: the snapshot is rebuilt from stored sources, every decision
//! point is asked on its recorded document, and the verdict is joined by the code that joined it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{judge, plan};
use crate::auth::Caller;
use crate::catalog::Tenant;
use crate::domain::action::Action;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::request::DetectorWishes;
use crate::domain::verdict::{self, Joined, Verdict, VerdictRules};
use crate::evidence::{self, Asked, Kept};
use crate::policy::{
    self, Evaluator, Failure, FailureKind, PlanAnswer, Point, StrategyFacts, View,
};
use crate::seal::SealError;
use crate::settings::{Env, Settings};
use crate::snapshot::{self, CheckParams, Files, Seen, Snapshot, Sources};

/// A machine may be slow where nobody waits.
const EVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Of several lengths and characters; no value that is left out of a record is empty.
const STAND_INS: [&str; 3] =
    ["a", "mail.example.org", "0123456789 0123456789 0123456789 0123456789"];
/// What the record of a plan holds and no rule says: versions follow from the content.
const UNSAID: [&str; 3] = ["versions", "relaxed", "params"];

/// Rebuilds and asks; keeps the snapshot that the last record named.
pub struct Replay {
    evaluator: Evaluator,
    settings: Settings,
    sources: Sources,
    last: Option<(String, TenantId, Snapshot)>,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Replayed {
    /// Every point said the same, and so the verdict.
    Equal,
    /// Something did not.
    Differs {
        /// What.
        differences: Vec<Difference>,
    },
    /// The policy read content, which no record holds.
    NotReproducible,
    /// Something did not, and the rules heed attributes of findings that no record holds.
    Unknown {
        /// What.
        differences: Vec<Difference>,
    },
    /// Its record was taken away when its time was over.
    Purged,
    /// It could not be decided again.
    Failed {
        /// Why.
        why: String,
    },
}

/// A recorded value, and what it would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Such as `plan.required` or `verdict.action`.
    pub what: String,
    /// As it stands in the record.
    pub recorded: Value,
    /// As it came out again.
    pub again: Value,
}

impl Replay {
    /// Under these settings, of which only tiers and limits matter.
    pub fn new(settings: &Settings, check_params: CheckParams) -> Replay {
        let mut settings = settings.clone();
        // Whom detectors may call was checked then; nobody is called now.
        settings.env = Env::Development;
        settings.security.outbound_allow = vec!["0.0.0.0/0".into(), "::/0".into()];
        settings.policy.eval_timeout.0 = EVAL_TIMEOUT;
        Replay {
            evaluator: Evaluator::new(snapshot::policy_limits(&settings)),
            sources: Sources::of(&settings, None, check_params),
            settings,
            last: None,
        }
    }

    /// Decides one record again; `get` reads sources.
    pub async fn one(&mut self, record: &str, get: snapshot::Get<'_>) -> Replayed {
        if record.is_empty() {
            return Replayed::Purged;
        }
        let Some(kept) = Kept::read(record) else {
            return Replayed::Failed { why: "it is no record of this release".into() };
        };
        if !kept.reproducible {
            return Replayed::NotReproducible;
        }
        match self.decide(&kept, &mut *get).await {
            Ok(differences) if differences.is_empty() => Replayed::Equal,
            Ok(differences) if kept.withheld => self.withheld(&kept, differences, get).await,
            Ok(differences) => Replayed::Differs { differences },
            Err(why) => Replayed::Failed { why },
        }
    }

    /// Of a record that ends otherwise without attributes of its findings: whether rules heed them.
    /// Then the end follows what stands in for them; what rules compare with is tried too.
    async fn withheld(
        &mut self,
        kept: &Kept,
        differences: Vec<Difference>,
        get: snapshot::Get<'_>,
    ) -> Replayed {
        for word in self.stand_ins(kept) {
            match self.decide(&kept.standing_in(&word), &mut *get).await {
                Ok(again) if again == differences => {}
                Ok(_) => return Replayed::Unknown { differences },
                Err(why) => return Replayed::Failed { why },
            }
        }
        Replayed::Differs { differences }
    }

    fn stand_ins(&self, kept: &Kept) -> Vec<String> {
        let view = self.last.as_ref().and_then(|(_, _, snapshot)| {
            snapshot.policies.view(&kept.tenant, &kept.policy).map(Arc::as_ref)
        });
        let literals = view.into_iter().flat_map(View::literals).filter(|word| !word.is_empty());
        let plain = STAND_INS.iter().map(|word| (*word).to_owned());
        plain.chain(literals.map(str::to_owned)).collect()
    }

    async fn decide(
        &mut self,
        kept: &Kept,
        get: snapshot::Get<'_>,
    ) -> Result<Vec<Difference>, String> {
        self.rebuild(kept, get)?;
        let (_, _, snapshot) = self.last.as_ref().ok_or("there is no snapshot")?;
        let gone = |what: &str| format!("the sources of its revision hold no {what}");
        let tenant = snapshot.catalog.tenants.get(&kept.tenant);
        let view = snapshot.policies.view(&kept.tenant, &kept.policy);
        let again = Again {
            evaluator: &self.evaluator,
            kept,
            tenant: tenant.ok_or_else(|| gone("tenant of its name"))?,
            seen: snapshot.seen.get(&kept.tenant).ok_or_else(|| gone("tenant of its name"))?,
            view: view.ok_or_else(|| gone("policy of its name"))?,
        };
        again.decide().await.map_err(|error| error.to_string())
    }

    /// Makes the snapshot that the record names the last one.
    fn rebuild(&mut self, kept: &Kept, get: snapshot::Get<'_>) -> Result<(), String> {
        let same = |(revision, tenant, _): &(String, TenantId, Snapshot)| {
            *revision == kept.revision && *tenant == kept.tenant
        };
        if self.last.as_ref().is_some_and(same) {
            return Ok(());
        }
        let files = Files::of_revision(&kept.revision, &kept.tenant, get);
        let files = files.map_err(|error| error.to_string())?;
        // Compiled rules are used again.
        let previous = self.last.take().map(|(_, _, snapshot)| snapshot);
        let rebuilt = Snapshot::rebuild(&files, &self.sources, &self.settings, previous.as_ref());
        let snapshot = rebuilt.map_err(|faults| {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            format!("the sources of its revision do not load: {first}")
        })?;
        self.last = Some((kept.revision.clone(), kept.tenant.clone(), snapshot));
        Ok(())
    }
}

/// One record over its snapshot.
struct Again<'a> {
    evaluator: &'a Evaluator,
    kept: &'a Kept,
    tenant: &'a Tenant,
    seen: &'a Seen,
    view: &'a Arc<View>,
}

impl Again<'_> {
    async fn decide(&self) -> Result<Vec<Difference>, SealError> {
        let kept = self.kept;
        let mut found = Found::default();
        found.compare("layers", kept.part("layers"), &value(self.view.layers()));
        let settings = value(&self.view.settings_digest().hex());
        found.compare("points.settings", kept.part("points/settings/sha256"), &settings);
        let planned = self.plan(&mut found).await?;
        self.conflict(&mut found).await?;
        let joined = self.joined(&planned, &mut found);
        let verdict = self.verdict(joined, &mut found).await;
        let again = read(&evidence::verdict_kept(&verdict)?);
        found.compare_fields("verdict", kept.part("verdict"), &again, &[]);
        Ok(found.0)
    }

    async fn plan(&self, found: &mut Found) -> Result<plan::Planned, SealError> {
        let (kept, view) = (self.kept, self.view);
        let facts = policy::facts_plain(&self.seen.facts);
        let hashed = kept.part("points/plan/detectors/sha256");
        if !hashed.is_null() {
            let again = value(&self.seen.facts_digest().hex());
            found.compare("points.plan.detectors", hashed, &again);
        }
        let document = || kept.document(Asked::Plan, &facts);
        let asked = self.evaluator.plan_again(view, &kept.tenant, document());
        let strategy = kept.strategy().map(|strategy| StrategyFacts {
            event: &strategy.event,
            detectors: &strategy.detectors,
            execution: strategy.execution,
            stop_on: strategy.stop_on,
        });
        let answer = match recorded(kept, Asked::Plan, Point::Plan) {
            Some(failure) => Err(failure),
            None => asked.await,
        };
        found.failed("points.plan.failed", kept.failed(Asked::Plan), answer.as_ref().err());
        let mut planned = match answer {
            Ok(answer) => self.planned(&answer, strategy.as_ref(), found),
            Err(failure) => {
                let floor = self.evaluator.floor_plan_again(view, &kept.tenant, document()).await;
                let floor = floor.unwrap_or_else(|_| view.floor().clone());
                plan::from_default(self.tenant, &self.seen.detectors, floor, &failure)
            }
        };
        planned.plan.event = strategy.map(|strategy| strategy.event.to_owned());
        let wishes = wishes(kept.part("points/head/request"));
        // Who may loosen was checked then.
        let caller = Caller::super_admin("replay");
        let _ = plan::wish(&wishes, &self.tenant.thresholds, &caller, &mut planned.plan);
        plan::hold(self.tenant, view, &mut planned);
        let again = read(&evidence::plan_kept(&planned.plan)?);
        found.compare_fields("plan", kept.part("plan"), &again, &UNSAID);
        found.loosened(kept.part("plan/relaxed"), again.get("relaxed"));
        found.parameters(kept.part("plan/params"), again.get("params"));
        Ok(planned)
    }

    fn planned(
        &self,
        answer: &PlanAnswer,
        strategy: Option<&StrategyFacts<'_>>,
        found: &mut Found,
    ) -> plan::Planned {
        if let Some(reason) = answer.deny.first() {
            found.add("plan.deny", &Value::Null, &value(reason));
        }
        plan::from_answer(answer, strategy)
    }

    async fn conflict(&self, found: &mut Found) -> Result<(), SealError> {
        let kept = self.kept;
        if !kept.has_conflict() {
            return Ok(());
        }
        let document = kept.document(Asked::Conflict, &Value::Null);
        let answer = match recorded(kept, Asked::Conflict, Point::Conflict) {
            Some(failure) => Err(failure),
            None => self.evaluator.settle_again(self.view, &kept.tenant, document).await,
        };
        let failed = kept.failed(Asked::Conflict);
        found.failed("points.conflict.failed", failed, answer.as_ref().err());
        if let Ok(choices) = answer {
            let again = read(&evidence::choices_kept(&choices)?);
            found.compare("choices", kept.part("points/conflict/choices"), &again);
        }
        Ok(())
    }

    fn joined(&self, planned: &plan::Planned, found: &mut Found) -> Joined {
        let floor = planned.floor_on_incomplete;
        let on_incomplete = self.tenant.on_incomplete.max(floor.unwrap_or(Action::Allow));
        let hurried = self.kept.joined.hurried.then_some(on_incomplete);
        let joined = Joined {
            on_incomplete,
            floor_on_incomplete: floor,
            plan_failure: planned.least_action.max(hurried),
            mode: planned.mode.unwrap_or(self.tenant.mode),
        };
        for (name, again) in [
            ("on_incomplete", value(&joined.on_incomplete)),
            ("floor_on_incomplete", value(&joined.floor_on_incomplete)),
            ("plan_failure", value(&joined.plan_failure)),
            ("mode", value(&joined.mode)),
        ] {
            let recorded = self.kept.part("joined").get(name).unwrap_or(&Value::Null);
            found.compare(&format!("joined.{name}"), recorded, &again);
        }
        joined
    }

    async fn verdict(&self, joined: Joined, found: &mut Found) -> Verdict {
        let kept = self.kept;
        let ((judgement, coverage), raw) = (kept.judged(), kept.raw());
        let floor = || kept.document(Asked::Floor, &Value::Null);
        let documents = (kept.document(Asked::Verdict, &Value::Null), floor());
        let lists = (judgement.findings.as_slice(), raw.as_slice());
        let answer = match recorded(kept, Asked::Verdict, Point::Verdict) {
            Some(failure) => Err(failure),
            None => self.evaluator.verdict_again(self.view, &kept.tenant, documents, lists).await,
        };
        let failed = kept.failed(Asked::Verdict);
        found.failed("points.verdict.failed", failed, answer.as_ref().err());
        let is_failed = answer.is_err();
        let rules = match answer {
            Ok(answer) => answer.rules,
            Err(_) => {
                let asked =
                    self.evaluator.floor_verdict_again(self.view, &kept.tenant, floor(), &raw);
                asked.await.map_or_else(|_| VerdictRules::default(), |answer| answer.rules)
            }
        };
        let mut verdict = verdict::join(&rules, &judgement, &raw, &coverage, joined);
        if is_failed {
            judge::fail_closed(&mut verdict, judge::failed_action(self.tenant));
        }
        verdict
    }
}

/// The failure that the record tells of, where to ask again would say nothing.
fn recorded(kept: &Kept, asked: Asked, point: Point) -> Option<Failure> {
    let kind = FailureKind::parse(kept.failed(asked)?)?;
    (!kind.is_repeatable()).then(|| Failure::recorded(point, kind))
}

/// What the request wished of detectors, as its head says; parameters are not in it.
fn wishes(request: &Value) -> DetectorWishes {
    let list = |name: &str| -> Vec<DetectorName> {
        let found = request.pointer(&format!("/detectors/{name}")).cloned();
        found.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
    };
    let thresholds = request.get("thresholds").cloned();
    DetectorWishes {
        only: list("only"),
        add: list("add"),
        exclude: list("exclude"),
        thresholds: thresholds.and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default(),
        params: Default::default(),
    }
}

fn value(plain: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(plain).unwrap_or_default()
}

fn read(canonical: &[u8]) -> Value {
    serde_json::from_slice(canonical).unwrap_or_default()
}

/// Differences found so far.
#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, what: &str, recorded: &Value, again: &Value) {
        let (recorded, again) = (recorded.clone(), again.clone());
        self.0.push(Difference { what: what.to_owned(), recorded, again });
    }

    fn compare(&mut self, what: &str, recorded: &Value, again: &Value) {
        if recorded != again {
            self.add(what, recorded, again);
        }
    }

    fn compare_fields(&mut self, what: &str, recorded: &Value, again: &Value, but: &[&str]) {
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let mut all = [keys(recorded), keys(again)].concat();
        all.sort();
        all.dedup();
        for key in all.iter().filter(|key| !but.contains(&key.as_str())) {
            let of = |value: &Value| value.get(key).cloned().unwrap_or_default();
            self.compare(&format!("{what}.{key}"), &of(recorded), &of(again));
        }
    }

    fn failed(&mut self, what: &str, recorded: Option<&str>, again: Option<&Failure>) {
        let again = again.map(|failure| failure.kind.name());
        self.compare(what, &value(&recorded), &value(&again));
    }

    /// What a request loosened, as far as its head says so.
    fn loosened(&mut self, recorded: &Value, again: Option<&Value>) {
        let told = |list: Option<&Value>| -> Vec<Value> {
            let all = list.and_then(Value::as_array).into_iter().flatten();
            let told = |at: &&Value| {
                let at = at.as_str().unwrap_or_default();
                at.starts_with("/detectors/") && !at.starts_with("/detectors/params/")
            };
            all.filter(told).cloned().collect()
        };
        self.compare("plan.relaxed", &told(Some(recorded)).into(), &told(again).into());
    }

    /// Parameters that the policy gave; those of a request are recorded as null.
    fn parameters(&mut self, recorded: &Value, again: Option<&Value>) {
        for (name, digest) in recorded.as_object().into_iter().flatten() {
            let again = again.and_then(|all| all.get(name)).unwrap_or(&Value::Null);
            if !digest.is_null() {
                self.compare(&format!("plan.params.{name}"), digest, again);
            }
        }
    }
}
