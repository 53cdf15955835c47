# Tenants labelled `variant: b` also review links and addresses of machines.
package standard

import rego.v1

review contains {"finding": finding.id, "code": "variant.b", "reason": "variant b: needs review"} if {
	input.tenant.labels.variant == "b"
	some finding in input.findings
	some name in ["pii.url", "pii.ip_address"]
	name in finding.path
}
