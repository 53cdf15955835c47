package tenants.acme.standard

block contains "x" if {
	some finding in input.findings
	findng.score > 0.9
}
