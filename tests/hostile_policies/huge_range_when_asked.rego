# expect: verdict error
# Thirty million numbers, but only for a certain finding.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	count(numbers.range(1, 30000000)) > 1
}
