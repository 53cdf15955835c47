# expect: load probe_bad_value
# The trial finds what a rule says of a category it names.
package demo

ignore contains 99 if {
	some f in input.findings
	f.category == "secrets.token"
}
