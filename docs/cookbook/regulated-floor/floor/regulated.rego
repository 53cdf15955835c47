# For tenants labelled `regulated: "true"`: both detectors are always asked, a secret always blocks.
package floor

import rego.v1

required contains name if {
	input.tenant.labels.regulated == "true"
	some name in ["pii", "secrets"]
}

block contains {"finding": finding.id, "reason": "regulated: no secrets"} if {
	input.tenant.labels.regulated == "true"
	some finding in input.findings
	"secrets" in finding.path
}
