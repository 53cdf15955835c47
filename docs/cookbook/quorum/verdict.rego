# Two flags block, a single flag goes to a person.
package tenants.shop.standard

import rego.v1

block contains {"code": "toxicity", "reason": "two detectors agree: toxic language"} if {
	input.categories.toxicity.resolved == "flagged"
}

review contains {"code": "toxicity.alone", "reason": "one detector of three: toxic language"} if {
	count(input.categories.toxicity.flagged_by) > 0
	input.categories.toxicity.resolved != "flagged"
}
