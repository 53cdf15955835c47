# What holds under every bundle: votes that do not suffice are looked at by a person.
package base

import rego.v1

review contains {"code": concat(".", ["unresolved", name]), "reason": reason} if {
	some name, category in input.categories
	category.resolved == "unresolved"
	reason := concat(" ", ["the detectors for", name, "do not settle it"])
}
