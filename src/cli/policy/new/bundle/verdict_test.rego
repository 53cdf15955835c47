package PACKAGE_TEST

import rego.v1

import data.PACKAGE

secret := {"id": 0, "path": ["secrets.token", "secrets"]}

test_a_secret_in_a_tools_result_is_reviewed if {
	wanted := {{"finding": 0, "reason": "secret in a tool's result"}}
	document := {"request": {"direction": "tool_result"}, "findings": [secret]}
	PACKAGE.review == wanted with input as document
}

test_a_secret_elsewhere_is_left_to_the_table if {
	document := {"request": {"direction": "input"}, "findings": [secret]}
	count(PACKAGE.review) == 0 with input as document
}
