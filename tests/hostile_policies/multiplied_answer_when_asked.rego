# expect: verdict bad_value
# The same as an answer.
package demo

obligations := {"a": v} if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	a0 := [f.category]
	a1 := [a0 | some _ in numbers.range(1, 3000)]
	a2 := [a1 | some _ in numbers.range(1, 3000)]
	a3 := [a2 | some _ in numbers.range(1, 3000)]
	a4 := [a3 | some _ in numbers.range(1, 3000)]
	v := a4
}
