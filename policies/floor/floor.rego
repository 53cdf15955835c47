# What nobody below may loosen, read from the floor's own table. It sees raw findings, before
# thresholds and votes.
package floor

import rego.v1

required contains name if some name in data.floor.settings.required

min_coverage := data.floor.settings.min_coverage

on_incomplete := data.floor.settings.on_incomplete

block contains entry(finding, "not allowed") if {
	some finding in input.findings
	actions[finding.category] == "block"
}

review contains entry(finding, "needs review") if {
	some finding in input.findings
	actions[finding.category] == "review"
}

redact contains entry(finding, "redacted") if {
	some finding in input.findings
	actions[finding.category] == "redact"
}

flag contains entry(finding, "noted") if {
	some finding in input.findings
	actions[finding.category] == "flag"
}

# Once for each category, however many findings there are.
paths := {finding.category: finding.path | some finding in input.findings}

actions := {category: action |
	some category, path in paths
	action := most_specific(path, data.floor.settings.actions)
}

entry(finding, done) := {"finding": finding.id, "reason": concat(" ", [name_of(finding), done])}

default name_of(_) := "finding"

name_of(finding) := most_specific(finding.path, data.floor.settings.names)

# The value of the first category of the path that the table holds, else that of "*".
most_specific(path, table) := hits[0] if {
	hits := [hit | some name in array.concat(path, ["*"]); hit := table[name]]
}
