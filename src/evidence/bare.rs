//! Findings without words of the content.
//!
//! What a detector says of a finding, such as a mail's domain, may be part of the content. A value
//! stays where the tenant's table names it, since rules compare it with the table; any other is left
//! out, so that its name alone remains.

use std::borrow::Cow;

use super::record::Decided;
use crate::domain::judgement::JudgedFinding;

/// Findings as a record may hold them.
pub(super) struct Bare<'a> {
    pub(super) findings: Cow<'a, [JudgedFinding]>,
    /// Before thresholds.
    pub(super) raw: Cow<'a, [JudgedFinding]>,
    /// Whether anything was left out.
    pub(super) withheld: bool,
}

impl<'a> Bare<'a> {
    pub(super) fn of(decided: &Decided<'a>) -> Self {
        let (findings, raw) = (&decided.outcome.judgement.findings, &decided.trail.raw);
        let mut bare = Self {
            findings: Cow::Borrowed(findings.as_slice()),
            raw: Cow::Borrowed(raw.as_slice()),
            withheld: false,
        };
        let foreign = |value: &String| !decided.view.names(value);
        let holds = |finding: &JudgedFinding| finding.attributes.values().any(foreign);
        for list in [&mut bare.findings, &mut bare.raw] {
            if !list.iter().any(holds) {
                continue;
            }
            bare.withheld = true;
            for finding in list.to_mut() {
                finding
                    .attributes
                    .values_mut()
                    .filter(|value| foreign(value))
                    .for_each(String::clear);
            }
        }
        bare
    }
}
