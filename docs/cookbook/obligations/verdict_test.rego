package tenants.shop.standard_test

import rego.v1

import data.tenants.shop.standard

found(path) := {"findings": [{"id": 0, "path": path}]}

test_personal_data_obliges if {
	document := found(["pii.email", "pii"])
	standard.obligations.delete_after_days == 30 with input as document
	standard.headers == {"X-Content-Class": "personal"} with input as document
}

test_anything_else_does_not if {
	not standard.obligations with input as found(["toxicity"])
	not standard.headers with input as found(["toxicity"])
}
