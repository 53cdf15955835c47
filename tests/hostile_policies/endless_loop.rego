# expect: load probe_timeout
# A loop that no document ends in time.
package demo

block contains "x" if {
	some a in numbers.range(1, 9000)
	some b in numbers.range(1, 9000)
	a * b < 0
}
