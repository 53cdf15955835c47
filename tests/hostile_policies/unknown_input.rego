# expect: load unknown_input
# A typo would be a silent allow.
package demo

block contains "x" if {
	some f in input.findings
	f.categry == "pii"
}
