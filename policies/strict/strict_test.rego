package strict_test

import rego.v1

import data.strict

settings := {
	"actions": {"*": "review", "toxicity": "block"},
	"names": {"*": "finding"},
	"ignore": [],
	"custom": {"environments": ["production"], "denied_tools": ["shell"], "disagreement_margin": 0.3},
}

clean := {
	"env": "production",
	"request": {"tool_names": []},
	"findings": [],
	"categories": {},
	"conflicts": [],
	"coverage": {"complete": true},
	"settings": settings,
}

with_finding(category, severity) := object.union(clean, {"findings": [{
	"id": 0,
	"category": category,
	"path": [category],
	"standing": true,
	"severity": severity,
	"attributes": {},
}]})

codes(entries) := {entry.code | some entry in entries}

test_clean_and_complete_content_gets_no_entry if {
	count(strict.block | strict.review) == 0 with input as clean
}

test_governance_faults_block if {
	codes(strict.block) == {"governance.env"} with input as object.union(clean, {"env": "staging"})
	document := object.union(clean, {"request": {"tool_names": ["shell"]}})
	codes(strict.block) == {"governance.tool"} with input as document
}

test_a_critical_finding_blocks if {
	count(strict.block) == 1 with input as with_finding("violence", "critical")
	count(strict.block) == 0 with input as with_finding("violence", "high")
}

test_anything_else_is_reviewed if count(strict.review) > 0 with input as with_finding("violence", "low")

test_disagreement_above_the_margin_is_reviewed if {
	wide := object.union(clean, {"conflicts": [{"scope": "category:toxicity", "delta": 0.4}]})
	codes(strict.review) == {"disagreement"} with input as wide
	narrow := object.union(clean, {"conflicts": [{"scope": "category:toxicity", "delta": 0.2}]})
	count(strict.review) == 0 with input as narrow
}

test_incomplete_coverage_is_reviewed if {
	codes(strict.review) == {"coverage.incomplete"} with input as object.union(clean, {"coverage": {"complete": false}})
}
