# expect: verdict error
# A builtin error would block nothing.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	to_number("12x") > 1
}
