# What TENANT adds to the policy `NAME`.
package PACKAGE

import rego.v1

block contains {"finding": finding.id, "reason": "TENANT: no bank details"} if {
	some finding in input.findings
	"pii.iban" in finding.path
}
