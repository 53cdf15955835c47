package tenants.acme.standard

block contains "x" if {
	for f in input.findings
	f.standing
}
