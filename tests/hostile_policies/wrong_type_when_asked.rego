# expect: load wrong_rule_kind
# A rule answers something else than a set.
package demo

block := 1 if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
}
