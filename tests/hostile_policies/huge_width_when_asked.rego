# expect: verdict error
# A text of two gigabytes.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	sprintf("%2000000000d", [1]) != ""
}
