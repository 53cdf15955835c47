# expect: verdict bad_value
# A finding that does not exist is ignored.
package demo

ignore contains 99 if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
}
