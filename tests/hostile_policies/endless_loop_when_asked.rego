# expect: verdict timeout
# A loop that only a certain finding starts.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	some a in numbers.range(1, 9000)
	some b in numbers.range(1, 9000)
	a * b < 0
}
