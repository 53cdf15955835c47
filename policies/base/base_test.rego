package base_test

import rego.v1

import data.base

test_only_unsettled_categories_are_reviewed if {
	categories := {"toxicity": {"resolved": "unresolved"}, "pii": {"resolved": "flagged"}}
	wanted := {{"code": "unresolved.toxicity", "reason": "the detectors for toxicity do not settle it"}}
	base.review == wanted with input as {"categories": categories}
}
