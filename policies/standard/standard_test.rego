package standard_test

import rego.v1

import data.standard

settings := {
	"actions": {"*": "flag", "pii": "redact", "pii.url": "flag", "toxicity": "block", "violence": "review"},
	"names": {"*": "finding", "pii": "personal data", "pii.email": "e-mail address"},
	"ignore": [{"category": "pii.email", "attribute": "domain", "values": ["acme.com"]}],
	"required": ["pii", "secrets"],
	"optional": ["*"],
	"quorum": {"toxicity": 2},
	"resolve": {"toxicity": {"strategy": "majority_vote"}},
}

finding(id, path, standing) := {
	"id": id,
	"category": path[0],
	"path": path,
	"standing": standing,
	"attributes": {"domain": "acme.com"},
}

test_the_most_specific_category_decides if {
	findings := [finding(0, ["pii.email", "pii"], true), finding(1, ["pii.url", "pii"], true)]
	document := {"findings": findings, "settings": settings}
	said := [standard.redact, standard.flag] with input as document
	said[0] == {{"finding": 0, "reason": "e-mail address redacted"}}
	said[1] == {{"finding": 1, "reason": "personal data noted"}}
}

test_only_standing_findings_block_or_need_review if {
	findings := [finding(0, ["toxicity"], false), finding(1, ["violence"], false)]
	document := {"findings": findings, "settings": settings}
	count(standard.block | standard.review) == 0 with input as document
}

test_redaction_does_not_wait_for_votes if {
	document := {"findings": [finding(0, ["pii"], false)], "settings": settings}
	count(standard.redact) == 1 with input as document
}

test_a_category_without_an_action_is_flagged if {
	document := {"findings": [finding(0, ["malware"], true)], "settings": settings}
	standard.flag == {{"finding": 0, "reason": "finding noted"}} with input as document
}

test_known_senders_are_ignored if {
	findings := [finding(0, ["pii.email", "pii"], true), finding(1, ["pii.phone", "pii"], true)]
	standard.ignore == {0} with input as {"findings": findings, "settings": settings}
}

test_the_plan_asks_what_can_judge_the_type if {
	detectors := [{"name": "pii", "types": ["text"]}, {"name": "eyes", "types": ["image"]}]
	document := {"request": {"type": "text"}, "detectors": detectors, "settings": settings}
	asked := [standard.optional, standard.required] with input as document
	asked == [{"pii"}, {"pii", "secrets"}]
}

test_a_quorum_joins_the_resolve_table if {
	wanted := {"toxicity": {"strategy": "majority_vote", "quorum": 2}}
	standard.resolve == wanted with input as {"settings": settings}
}
