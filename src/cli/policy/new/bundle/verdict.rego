# What follows: the table decides as in `standard`; rules of NAME stand below.
package PACKAGE

import rego.v1

block contains entry if some entry in data.standard.block

review contains entry if some entry in data.standard.review

redact contains entry if some entry in data.standard.redact

flag contains entry if some entry in data.standard.flag

ignore := data.standard.ignore

headers := data.standard.headers

# A secret that a tool sends back deserves a look, whatever the table says.
review contains {"finding": finding.id, "reason": "secret in a tool's result"} if {
	input.request.direction == "tool_result"
	some finding in input.findings
	"secrets" in finding.path
}
