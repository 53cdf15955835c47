package tenants.acme.standard_test

import rego.v1

import data.tenants.acme.standard

test_acme_blocks_secrets_and_nothing_else if {
	findings := [{"id": 0, "path": ["secrets.token", "secrets"]}, {"id": 1, "path": ["pii"]}]
	wanted := {{"finding": 0, "reason": "acme: no secrets"}}
	standard.block == wanted with input as {"findings": findings}
}
