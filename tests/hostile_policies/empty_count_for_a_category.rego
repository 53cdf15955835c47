# expect: load probe_error
# The trial finds what a rule says of a category it names.
package demo

block contains "x" if {
	some f in input.findings
	f.category == "secrets.token"
	strings.count(f.label, "") > 1
}
