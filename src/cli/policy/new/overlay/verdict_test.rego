package PACKAGE_TEST

import rego.v1

import data.PACKAGE as overlay

test_bank_details_block_and_nothing_else if {
	findings := [{"id": 0, "path": ["pii.iban", "pii"]}, {"id": 1, "path": ["pii.email", "pii"]}]
	wanted := {{"finding": 0, "reason": "TENANT: no bank details"}}
	overlay.block == wanted with input as {"findings": findings}
}
