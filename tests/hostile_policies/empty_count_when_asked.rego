# expect: verdict error
# The builtin panics.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	strings.count(f.label, "") > 1
}
