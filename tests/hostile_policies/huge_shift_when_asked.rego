# expect: verdict error
# A number of four thousand million bits.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	bits.lsh(1, 4000000000) > 1
}
