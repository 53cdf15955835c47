# expect: load conflicting_rules
# The trial finds what a rule says of a category it names.
package demo

v := 1 if {
	some f in input.findings
	f.category == "secrets.token"
}

v := 2 if {
	some f in input.findings
	f.category == "secrets.token"
}

block contains "x" if v == 1
