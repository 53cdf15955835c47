# expect: load probe_error
# It takes no text.
package demo

block contains "x" if {
	some f in input.findings
	abs(f.category) > 1
}
