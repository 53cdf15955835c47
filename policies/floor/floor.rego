# What nobody below may loosen, read from the floor's own table. It sees raw findings, before
# thresholds and votes.
package floor

import rego.v1

required contains name if some name in data.floor.settings.required

min_coverage := data.floor.settings.min_coverage

on_incomplete := data.floor.settings.on_incomplete

block contains entry(finding, "not allowed") if {
	some finding in input.findings
	action(finding) == "block"
}

review contains entry(finding, "needs review") if {
	some finding in input.findings
	action(finding) == "review"
}

redact contains entry(finding, "redacted") if {
	some finding in input.findings
	action(finding) == "redact"
}

flag contains entry(finding, "noted") if {
	some finding in input.findings
	action(finding) == "flag"
}

# The value of the first category of the path that the table holds, else that of "*".
action(finding) := hits[0] if {
	table := data.floor.settings.actions
	hits := [table[name] | some name in array.concat(finding.path, ["*"]); name in object.keys(table)]
}

entry(finding, done) := {"finding": finding.id, "reason": reason} if {
	reason := concat(" ", [name_of(finding), done])
}

default name_of(_) := "finding"

name_of(finding) := hits[0] if {
	table := data.floor.settings.names
	hits := [table[name] | some name in array.concat(finding.path, ["*"]); name in object.keys(table)]
}
