# In this order: a governance fault blocks, a critical finding blocks, disagreement above the
# margin is reviewed, clean and complete content is allowed, and everything else is reviewed.
package strict

import rego.v1

block contains entry if some entry in data.standard.block

review contains entry if some entry in data.standard.review

redact contains entry if some entry in data.standard.redact

flag contains entry if some entry in data.standard.flag

ignore := data.standard.ignore

block contains {"code": "governance.env", "reason": "the tenant may not be served in this environment"} if {
	environments := input.settings.custom.environments
	not input.env in environments
}

block contains {"code": "governance.tool", "reason": concat(" ", ["the tool is denied:", name])} if {
	some name in input.request.tool_names
	name in input.settings.custom.denied_tools
}

block contains {"finding": finding.id, "reason": "critical finding"} if {
	some finding in input.findings
	finding.standing
	finding.severity == "critical"
}

review contains {"code": "disagreement", "reason": concat(" ", ["detectors disagree on", conflict.scope])} if {
	some conflict in input.conflicts
	conflict.delta > input.settings.custom.disagreement_margin
}

review contains {"code": "coverage.incomplete", "reason": "not everything was judged"} if not input.coverage.complete

review contains {"finding": finding.id, "reason": "not clean"} if {
	some finding in input.findings
	finding.standing
	not finding.id in ignore
	data.standard.actions[finding.category] != "allow"
}
