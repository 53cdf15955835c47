# expect: load wrong_rule_kind
# The trial finds what a rule says of a category it names.
package demo

block := 1 if {
	some f in input.findings
	f.category == "secrets.token"
}
