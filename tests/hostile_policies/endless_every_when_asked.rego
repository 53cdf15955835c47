# expect: verdict timeout
# The same by `every`.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	every a in numbers.range(1, 9000) {
		every b in numbers.range(1, 9000) {
			a * b > 0
		}
	}
}
