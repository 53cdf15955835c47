# What the caller must do besides, when personal data was found.
package tenants.shop.standard

import rego.v1

personal if {
	some finding in input.findings
	"pii" in finding.path
}

obligations := {"notify": "privacy", "delete_after_days": 30} if personal

headers := {"X-Content-Class": "personal"} if personal
