package standard_test

import rego.v1

import data.standard

link(variant) := {
	"tenant": {"labels": {"variant": variant}},
	"findings": [{
		"id": 0,
		"category": "pii.url",
		"path": ["pii.url", "pii"],
		"standing": true,
		"attributes": {},
	}],
	"settings": {"actions": {"*": "flag"}, "names": {"*": "finding"}, "ignore": []},
}

test_variant_b_reviews_links if count(standard.review) == 1 with input as link("b")

test_variant_a_does_not if count(standard.review) == 0 with input as link("a")
