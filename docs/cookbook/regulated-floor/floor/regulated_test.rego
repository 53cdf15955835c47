package floor_test

import rego.v1

import data.floor

secret(label) := {
	"tenant": {"labels": {"regulated": label}},
	"findings": [{"id": 0, "category": "secrets.token", "path": ["secrets.token", "secrets"]}],
}

test_a_regulated_tenant_is_held if {
	count(floor.block) == 1 with input as secret("true")
	floor.required == {"pii", "secrets"} with input as secret("true")
}

test_another_tenant_is_not if {
	count(floor.block) == 0 with input as secret("false")
	count(floor.required) == 0 with input as secret("false")
}
