# For tenants labelled `regulated: "true"`: pii is always asked, and a secret always blocks.
package floor

import rego.v1

required contains "pii" if input.tenant.labels.regulated == "true"

block contains {"finding": finding.id, "reason": "regulated: no secrets"} if {
	input.tenant.labels.regulated == "true"
	some finding in input.findings
	"secrets" in finding.path
}
