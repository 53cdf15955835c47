# The table decides: the most specific category of a finding names its action.
package standard

import rego.v1

block contains entry(finding, "not allowed") if {
	some finding in input.findings
	finding.standing
	actions[finding.category] == "block"
}

review contains entry(finding, "needs review") if {
	some finding in input.findings
	finding.standing
	actions[finding.category] == "review"
}

# Redaction does not wait for votes.
redact contains entry(finding, "redacted") if {
	some finding in input.findings
	actions[finding.category] == "redact"
}

flag contains entry(finding, "noted") if {
	some finding in input.findings
	finding.standing
	actions[finding.category] == "flag"
}

ignore contains finding.id if {
	some rule in input.settings.ignore
	some finding in input.findings
	rule.category in finding.path
	finding.attributes[rule.attribute] in rule.values
}

headers := input.settings.headers

actions[finding.category] := most_specific(finding.path, input.settings.actions) if {
	some finding in input.findings
}

entry(finding, done) := {"finding": finding.id, "reason": reason} if {
	reason := concat(" ", [most_specific(finding.path, input.settings.names), done])
}

# The value of the first category of the path that the table holds, else that of "*".
most_specific(path, table) := hits[0] if {
	hits := [table[name] | some name in array.concat(path, ["*"]); name in object.keys(table)]
}
