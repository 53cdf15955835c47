# expect: verdict error or verdict timeout
# A pattern of a thousand million states.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	regex.match("((a{1000}){1000}){1000}", f.label)
}
