package tenants.acme.standard

block contains {"finding": f.id, "reasn": "no"} if {
	some f in input.findings
	f.standing
}
