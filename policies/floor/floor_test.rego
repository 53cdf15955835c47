package floor_test

import rego.v1

import data.floor

table := {
	"actions": {"secrets": "block", "secrets.private_key": "redact"},
	"names": {"secrets": "secret"},
	"required": ["secrets"],
	"min_coverage": 0.5,
	"on_incomplete": "review",
}

finding(path) := {"findings": [{"id": 0, "category": path[0], "path": path}]}

test_the_floor_follows_its_own_table if {
	floor.required == {"secrets"} with data.floor.settings as table
	floor.min_coverage == 0.5 with data.floor.settings as table
	floor.on_incomplete == "review" with data.floor.settings as table
}

test_the_most_specific_category_decides if {
	key := finding(["secrets.private_key", "secrets"])
	count(floor.redact) == 1 with input as key with data.floor.settings as table
	count(floor.block) == 0 with input as key with data.floor.settings as table
	token := finding(["secrets.token", "secrets"])
	wanted := {{"finding": 0, "reason": "secret not allowed"}}
	floor.block == wanted with input as token with data.floor.settings as table
}

test_what_the_table_does_not_name_is_left_to_the_layers if {
	other := finding(["pii"])
	count(floor.block | floor.review | floor.redact | floor.flag) == 0 with input as other with data.floor.settings as table
}

test_a_star_speaks_for_what_nothing_else_names if {
	every_finding := {"actions": {"*": "review", "pii": "allow"}}
	count(floor.review) == 1 with input as finding(["hate"]) with data.floor.settings as every_finding
	count(floor.review) == 0 with input as finding(["pii.email", "pii"]) with data.floor.settings as every_finding
}
