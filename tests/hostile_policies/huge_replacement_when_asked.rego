# expect: verdict error
# A text that grows a thousandfold each time.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	a := concat("", [f.category | some i in numbers.range(1, 9000)])
	b := replace(a, "s", a)
	c := replace(b, "s", b)
	d := replace(c, "s", c)
	d != ""
}
