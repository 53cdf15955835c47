package tenants.acme.standard

block contains "x" if {
	some a in numbers.range(1, 9000)
	some b in numbers.range(1, 9000)
	a * b < 0
}
