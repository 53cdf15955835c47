# expect: verdict error
# Two values of one rule.
package demo

v := 1 if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
}

v := 2 if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
}

block contains "x" if v == 1
