package tenants.shop.standard_test

import rego.v1

import data.tenants.shop.standard

votes(flagged, cleared) := {"categories": {"toxicity": {"flagged_by": flagged, "cleared_by": cleared}}}

test_a_contradiction_is_reviewed if {
	wanted := {{"code": "disagreement", "reason": "detectors disagree on toxicity"}}
	standard.review == wanted with input as votes(["tox-a"], ["tox-b"])
}

test_agreement_and_silence_are_not if {
	count(standard.review) == 0 with input as votes(["tox-a", "tox-b"], [])
	count(standard.review) == 0 with input as votes([], ["tox-a"])
	count(standard.review) == 0 with input as votes([], [])
}
