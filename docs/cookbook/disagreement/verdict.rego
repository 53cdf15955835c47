# Where detectors contradict each other, a person decides.
package tenants.shop.standard

import rego.v1

review contains {"code": "disagreement", "reason": concat(" ", ["detectors disagree on", category])} if {
	some category, votes in input.categories
	count(votes.flagged_by) > 0
	count(votes.cleared_by) > 0
}
