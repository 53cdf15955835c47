# expect: verdict timeout
# The same by a comprehension.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	count([1 | some a in numbers.range(1, 9000); some b in numbers.range(1, 9000); a * b < 0]) > 1
}
