package tenants.shop.standard_test

import rego.v1

import data.tenants.shop.standard

at(end) := {"pointer": "/content", "start": 4, "end": end}

secret := {"id": 0, "detector": "secrets", "category": "secrets.token", "path": ["secrets.token", "secrets"], "span": at(24)}

known(detector, end) := {
	"id": 1,
	"detector": detector,
	"category": "other.known-values",
	"path": ["other.known-values", "other"],
	"span": at(end),
}

test_a_known_value_is_ignored if {
	standard.ignore == {0} with input as {"findings": [secret, known("known-values", 24)]}
}

test_a_longer_secret_that_holds_a_known_value_is_not if {
	count(standard.ignore) == 0 with input as {"findings": [secret, known("known-values", 20)]}
}

test_nobody_else_may_say_so if {
	count(standard.ignore) == 0 with input as {"findings": [secret, known("other", 24)]}
}
