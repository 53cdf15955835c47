# expect: verdict error
# A number of a thousand million digits.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	to_number("1e999999999") > 1
}
