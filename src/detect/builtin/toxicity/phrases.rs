//! What single words do not show: threats, and mild words said to somebody's face.

use std::ops::Range;
use std::sync::LazyLock;

use ::regex::Regex;

use super::Class;
use crate::domain::finding::Severity;

/// Only the speaker's own intent counts: `this will kill you` is a warning.
const THREATS: &str = r"(?ix)\b(?:i|we)
  (?: ['’]?ll | \s+will | \s+shall | (?:['’]?m|['’]?re|\s+am|\s+are)\s+(?:going\s+to|gonna|about\s+to) | \s*mma | \s+gonna )
  \s+ (?:[a-z]{2,10}\s+)?
  (?: (?:kill|murder|stab|strangle|behead|slaughter|shoot|rape|lynch)\s+(?:you|u|him|her|y['’]?all|your\s+\p{L}+)
    | beat\s+(?:you|him|her)\s+(?:up|to\s+death|bloody|senseless)
    | (?:cut|slit)\s+your\s+throats?
    | break\s+your\s+(?:legs?|neck|bones|face|arms?|jaw)
    | burn\s+(?:your|the)\s+(?:house|home)\s+down )\b
  | \byou\s+(?:all\s+)?(?:deserve\s+to|should(?:\s+just)?)\s+die\b";

const HATRED: &str = r"(?i)\bi\s+(?:really\s+|fucking\s+|so\s+)?(?:hate|despise|loathe)\s+you\b";

/// The end of what stands before a mild word when it is said to somebody.
const TO_YOU: &str = r"(?ix)(?:^|[^\p{L}\p{N}])
  (?: (?:you|u|ya|y['’]?all|you\s+(?:guys|people)) (?:\s*['’]?(?:re|r)|\s+are|\s+were)?
    | he\s+is | she\s+is | (?:he|she)['’]s | they\s+are | they['’]re | your?\s+an? )
  (?:[\s,'’-]+(?:an?|the|so|such|all|just|really|very|fucking|freaking|damn|damned|absolute|complete
    |total|utter|useless|little|big|worthless|pathetic|bloody|dirty|filthy|old|poor
    |stupid|dumb|ugly|lazy|fat|lying))*
  [\s,'’-]*$";

/// Characters before a word that are looked at.
const BEFORE: usize = 60;

#[expect(clippy::expect_used, reason = "the patterns are constant and compiled by a test")]
static RULES: LazyLock<[Regex; 3]> =
    LazyLock::new(|| [THREATS, HATRED, TO_YOU].map(|rule| Regex::new(rule).expect("constant")));

/// Threats and hatred towards the reader, in bytes.
pub(super) fn find(text: &str) -> Vec<(Range<usize>, Class)> {
    let [threats, hatred, _] = &*RULES;
    let threats = threats.find_iter(text).map(|m| (m.range(), ("toxicity.threat", Severity::High)));
    let hatred = hatred.find_iter(text).map(|m| (m.range(), ("toxicity.insult", Severity::Medium)));
    threats.chain(hatred).collect()
}

/// How bad a mild word at byte `at` is: medium where it is said to or of somebody.
pub(super) fn insult(text: &str, at: usize) -> Severity {
    let before = text.get(..at).unwrap_or_default();
    let from = before.char_indices().rev().take(BEFORE).last().map_or(at, |(from, _)| from);
    let [_, _, to_you] = &*RULES;
    match before.get(from..).is_some_and(|before| to_you.is_match(before)) {
        true => Severity::Medium,
        false => Severity::Low,
    }
}
