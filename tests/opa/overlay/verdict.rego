# Text builtins at every decision point, the way layers meet documents.
package tenants.special.standard

import rego.v1

block contains {"finding": f.id, "reason": reason} if {
	some f in input.findings
	startswith(lower(f.label), "block")
	reason := sprintf("%s of %d characters", [upper(f.label), count(f.label)])
}

review contains concat(" ", ["note", trim_space(word)]) if {
	some word in split(input.tenant.labels.note, " ")
	regex.match(`^[a-zé]{2,4}$`, word)
	contains(input.tenant.labels.note, "😀")
}

flag contains {"reason": replace(f.label, "é", "e"), "code": "label"} if {
	some f in input.findings
	indexof(f.label, "é") > 0
}

ignore contains f.id if {
	some f in input.findings
	endswith(f.attributes.domain, ".org")
	count(f.attributes.domain) > 4
}

obligations := {"labels": {f.label: substring(f.label, 1, 2) | some f in input.findings}, "ids": ids}

ids := [format_int(f.id, 10) | some f in input.findings]

headers := {"X-Kept": format_int(count(input.findings) - count(ignore), 10)}

settle[category] := {"strategy": "majority_vote", "reason": reason} if {
	some category, votes in input.categories
	labels := {trim(vote.label, " ") | some vote in votes.candidates}
	count(labels) > 1
	reason := concat(", ", sort(labels))
}

deny contains sprintf("%v may not use %s", [input.tenant.id, name]) if {
	some name in input.request.tool_names
	contains(name, "shell")
}

optional contains d.name if {
	some d in input.detectors
	d.cost < 2
	not d.name in input.request.detectors.exclude
}

thresholds := {category: bounded |
	some category, score in input.request.thresholds
	bounded := min([1, score])
}
