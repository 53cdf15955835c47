package tenants.shop.standard_test

import rego.v1

import data.tenants.shop.standard

votes(resolved, flagged) := {"categories": {"toxicity": {"resolved": resolved, "flagged_by": flagged}}}

test_two_flags_block if {
	count(standard.block) == 1 with input as votes("flagged", ["tox-a", "tox-b"])
	count(standard.review) == 0 with input as votes("flagged", ["tox-a", "tox-b"])
}

test_a_single_flag_is_reviewed_and_never_blocks if {
	count(standard.review) == 1 with input as votes("clear", ["tox-a"])
	count(standard.block) == 0 with input as votes("clear", ["tox-a"])
	count(standard.review) == 1 with input as votes("unresolved", ["tox-a"])
}

test_no_flag_is_silent if {
	count(standard.block | standard.review) == 0 with input as votes("clear", [])
}
