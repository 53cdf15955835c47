# expect: load probe_error
# The trial asks for every word of the schema.
package demo

block contains "x" if {
	input.request.priority == "batch"
	abs(input.env) > 1
}
