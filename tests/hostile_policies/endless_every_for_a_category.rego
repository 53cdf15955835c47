# expect: load probe_timeout
# The trial finds what a rule says of a category it names.
package demo

block contains "x" if {
	some f in input.findings
	f.category == "secrets.token"
	every a in numbers.range(1, 9000) {
		every b in numbers.range(1, 9000) {
			a * b > 0
		}
	}
}
