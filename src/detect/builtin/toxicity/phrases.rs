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

/// Who is meant where a whole group is.
const GROUP: &str = r"(?:muslims|jews|blacks|whites|gays|lesbians|homosexuals|immigrants|migrants|refugees
  |women|mexicans|africans|asians|arabs|indians|chinese|roma|gypsies|queers|foreigners|christians
  |catholics|(?:trans|transgender|disabled|black|white|gay|brown|jewish|muslim|asian|fat|old)\s+
  (?:people|men|women|folks?))";

/// A group likened to what is killed, thrown away or locked up; harm wished to it.
const HATE: &str = r"GROUP\s+are\s+(?:all\s+|just\s+|nothing\s+but\s+|really\s+|simply\s+)?(?:an?\s+|the\s+)?
    (?:\w+\s+){0,2}(?:vermin|cockroach(?:es)?|rats|pigs|apes|monkeys|animals|savages|subhumans?|inferior
    |parasites|scum|filth|trash|garbage|disease|cancer|plague|degenerates?|perverts?|freaks|disgusting
    |mentally\s+ill|worthless|rapists|thieves|criminals|terrorists|devils|demons|abominations?|burden)
  |(?:gas|exterminate|lynch|hang|burn|deport|shoot|kill|annihilate|wipe\s+out|get\s+rid\s+of)\s+
    (?:all\s+)?(?:the\s+|those\s+|these\s+)?GROUP
  |(?:all|those|these|dirty|filthy|fucking)\s+GROUP\s+(?:should|must|need\s+to|have\s+to|deserve\s+to)\s+
    (?:all\s+)?(?:die|burn|hang|rot|be\s+(?:shot|killed|hanged|gassed|exterminated|removed))
  |i\s+(?:really\s+|fucking\s+|so\s+)?(?:hate|despise|loathe)\s+(?:all\s+|those\s+|these\s+)?GROUP
  |(?:wish|hope)\s+(?:that\s+)?(?:all\s+)?(?:the\s+|those\s+)?GROUP\s+(?:would\s+|will\s+)?(?:all\s+)?
    (?:die|burn|rot|disappear)";

/// Threats that need more than one verb, and death wished to the reader.
const WISHES: &str = r"(?:i|we)SHALL\s+(?:find|track|hunt|come\s+(?:for|to)|catch|grab)\s+(?:you|him|her)
    \b[^.!?\n]{0,20}\band\s+(?:kill|murder|stab|strangle|shoot|rape|beat|hurt|cut|slit|gut|break)
  |(?:i|we)SHALL\s+(?:beat\s+you|smash\s+your\s+(?:face|head|skull|teeth)|break\s+every\s+bone|bash\s+your
    |knock\s+your\s+teeth|skin\s+you|gut\s+you|hurt\s+you|make\s+you\s+(?:suffer|bleed))
  |some(?:body|one)\s+should\s+(?:put\s+a\s+bullet\s+in|shoot|kill|hang|rape)\s+(?:you|him|her|them|your)
  |hope\s+(?:that\s+)?(?:you|someone|somebody|they)\s+(?:all\s+)?(?:die|rot|burn|choke|suffer|bleed
    |(?:rapes?|kills?|shoots?)\s+you|gets?\s+(?:raped|cancer|aids|shot|killed))
  |better\s+off\s+dead
  |(?:go|just|please|favou?r\s+and)\s+(?:and\s+)?(?:drink\s+bleach|hang\s+yourself|shoot\s+yourself
    |kill\s+(?:your|ur)\s*sel(?:f|ves)|slit\s+your\s+wrists|jump\s+off\s+a\s+(?:bridge|cliff|roof)
    |die\s+in\s+a\s+fire)
  |drink\s+bleach,?\s+(?:please|you|and\s+die)
  |watch\s+your\s+back,?\s+(?:i|we)
  |i\s+know\s+where\s+you\s+(?:live|sleep)[.!,]
  |we(?:['’]re|\s+are)\s+coming\s+for\s+you
  |they\s+should\s+(?:all|both)\s+be\s+(?:shot|hanged|hung|killed|gassed|executed|beheaded|raped)";

const SHALL: &str = r"(?:\s*['’]?ll|\s+will|\s+shall|(?:['’]?m|['’]?re|\s+am|\s+are)\s+
    (?:going\s+to|gonna|about\s+to)|\s*mma|\s+gonna)";

/// The end of what stands before hatred that is reported or denied.
const REPORTED: &str = r"(?i)\b(?:that|say(?:s|ing)?|said|claim\w*|calling|told|idea|myth|not|never|if)\b[^.!?]{0,20}$";

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
static RULES: LazyLock<[Regex; 6]> = LazyLock::new(|| {
    let whole = |rule: &str| {
        let rule = rule.replace("GROUP", GROUP).replace("SHALL", SHALL);
        format!(r"(?ix)\b(?:{rule})(?:\b|$)")
    };
    [THREATS, HATRED, TO_YOU, &whole(HATE), &whole(WISHES), REPORTED]
        .map(|rule| Regex::new(rule).expect("constant"))
});

/// Threats, and hatred towards the reader and towards groups, in bytes.
pub(super) fn find(text: &str) -> Vec<(Range<usize>, Class)> {
    let [threats, hatred, _, hate, wishes, reported] = &*RULES;
    let meant = |range: &Range<usize>| {
        let own = text.get(range.clone()).unwrap_or_default();
        !own.contains(" not ") && !reported.is_match(before(text, range.start))
    };
    let found = |rule: &'static Regex, class: Class| {
        rule.find_iter(text).map(move |found| (found.range(), class))
    };
    found(threats, ("toxicity.threat", Severity::High))
        .chain(found(wishes, ("toxicity.threat", Severity::High)).filter(|(range, _)| meant(range)))
        .chain(found(hate, ("hate.identity", Severity::High)).filter(|(range, _)| meant(range)))
        .chain(found(hatred, ("toxicity.insult", Severity::Medium)))
        .collect()
}

/// How bad a mild word at byte `at` is: medium where it is said to or of somebody.
pub(super) fn insult(text: &str, at: usize) -> Severity {
    let [_, _, to_you, _, _, _] = &*RULES;
    match to_you.is_match(before(text, at)) {
        true => Severity::Medium,
        false => Severity::Low,
    }
}

/// The characters before byte `at` that are looked at.
fn before(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let from = before.char_indices().rev().take(BEFORE).last().map_or(at, |(from, _)| from);
    before.get(from..).unwrap_or_default()
}
