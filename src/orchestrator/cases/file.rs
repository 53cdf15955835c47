//! `*_cases.yaml` as authors write it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::action::Action;
use crate::domain::category::{Category, TREE};
use crate::domain::finding::Severity;
use crate::domain::id::{DetectorName, TenantId};
use crate::policy::Source;
use crate::yaml::fault::{Fault, FaultKind};
use crate::yaml::{self, Data};

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Line and column.
    #[serde(skip)]
    pub(super) at: (u32, u32),
    pub(super) name: String,
    /// The folder's tenant unless set.
    pub(super) tenant: Option<TenantId>,
    pub(super) request: Option<serde_json::Value>,
    pub(super) findings: Option<Vec<FindingIn>>,
    pub(super) expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingIn {
    pub(super) category: Category,
    /// The first that the plan asks and that can find it, unless set.
    pub(super) detector: Option<DetectorName>,
    #[serde(default)]
    pub(super) label: String,
    #[serde(default = "sure")]
    pub(super) score: f64,
    #[serde(default)]
    pub(super) severity: Severity,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
}

fn sure() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) action: Option<Action>,
    /// Whether the plan refuses the request; instead of an action.
    #[serde(default)]
    pub(super) denied: bool,
    pub(super) redacted: Option<serde_json::Value>,
    /// Codes that must be among the reasons'.
    #[serde(default)]
    pub(super) reasons: Vec<String>,
}

impl Expect {
    /// Whether it says one thing: an action, or nothing but a denial.
    fn is_one(&self) -> bool {
        let more = self.action.is_some() || self.redacted.is_some() || !self.reasons.is_empty();
        match self.denied {
            true => !more,
            false => self.action.is_some(),
        }
    }
}

pub(super) fn read(file: &Source) -> Result<Vec<Case>, Vec<Fault>> {
    let source = yaml::Source { kind: FaultKind::Policy, file: &file.path };
    let text = yaml::text(FaultKind::Policy, &file.path, &file.bytes)?;
    let tree = yaml::tree(FaultKind::Policy, &file.path, text)?;
    let Data::List(items) = &tree.data else {
        let hint = Some("write `- name: …` entries".to_owned());
        let message = "cases are no list".to_owned();
        return Err(vec![source.fault(tree.at(), "bad_value", message, hint)]);
    };
    let mut faults = Vec::new();
    let mut cases = Vec::new();
    for item in items {
        match item.decode::<Case>(source) {
            Err(fault) => faults.push(taught(fault)),
            Ok(case) if case.request.is_some() == case.findings.is_some() => {
                let message = format!("the case `{}` has not one of request, findings", case.name);
                let hint = Some("give either `request` or `findings`".to_owned());
                faults.push(source.fault(item.at(), "bad_case", message, hint));
            }
            Ok(case) if !case.expect.is_one() => {
                let message = format!("the case `{}` expects not one of action, denied", case.name);
                let hint = "give either `action`, with what goes along, or `denied: true` alone";
                faults.push(source.fault(item.at(), "bad_case", message, Some(hint.to_owned())));
            }
            Ok(case) if case.findings.iter().flatten().any(|f| !(0.0..=1.0).contains(&f.score)) => {
                let message = format!("a score of the case `{}` is not between 0 and 1", case.name);
                let hint = Some("write the calibrated score, 0 to 1".to_owned());
                faults.push(source.fault(item.at(), "bad_case", message, hint));
            }
            Ok(case) => cases.push(Case { at: item.at(), ..case }),
        }
    }
    if faults.is_empty() { Ok(cases) } else { Err(faults) }
}

/// The fault with the nearest category where an unknown one has no hint.
fn taught(mut fault: Fault) -> Fault {
    let word = fault.message.split('`').nth(1).unwrap_or_default();
    if fault.hint.is_none() {
        let near = yaml::nearest(word, TREE.iter().copied());
        let hint = near.map_or("correct the value".to_owned(), |near| format!("write `{near}`"));
        fault.hint = Some(hint);
    }
    fault
}
