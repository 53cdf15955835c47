# The table decides: the most specific category of a finding names its action.
package standard

import rego.v1

block contains entry(finding, "not allowed") if {
	some finding in input.findings
	actions[finding.category] == "block"
	finding.standing
}

review contains entry(finding, "needs review") if {
	some finding in input.findings
	actions[finding.category] == "review"
	finding.standing
}

# Redaction does not wait for votes.
redact contains entry(finding, "redacted") if {
	some finding in input.findings
	actions[finding.category] == "redact"
}

flag contains entry(finding, "noted") if {
	some finding in input.findings
	actions[finding.category] == "flag"
	finding.standing
}

ignore contains finding.id if {
	some rule in input.settings.ignore
	some finding in input.findings
	rule.category in finding.path
	finding.attributes[rule.attribute] in rule.values
}

headers := input.settings.headers

# Once for each category, however many findings there are.
paths := {finding.category: finding.path | some finding in input.findings}

actions := chosen(input.settings.actions)

names := chosen(input.settings.names)

chosen(table) := {category: value |
	some category, path in paths
	value := most_specific(path, table)
}

entry(finding, done) := {"finding": finding.id, "reason": concat(" ", [names[finding.category], done])}

# The value of the first category of the path that the table holds, else that of "*".
most_specific(path, table) := hits[0] if {
	hits := [hit | some name in array.concat(path, ["*"]); hit := table[name]]
}
