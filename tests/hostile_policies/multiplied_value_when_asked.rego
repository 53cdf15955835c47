# expect: verdict timeout
# Three thousand to the fourth shared parts, by comprehensions.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	a0 := [f.category]
	a1 := [a0 | some _ in numbers.range(1, 3000)]
	a2 := [a1 | some _ in numbers.range(1, 3000)]
	a3 := [a2 | some _ in numbers.range(1, 3000)]
	a4 := [a3 | some _ in numbers.range(1, 3000)]
	b0 := [f.category]
	b1 := [b0 | some _ in numbers.range(1, 3000)]
	b2 := [b1 | some _ in numbers.range(1, 3000)]
	b3 := [b2 | some _ in numbers.range(1, 3000)]
	b4 := [b3 | some _ in numbers.range(1, 3000)]
	a4 != b4
}
