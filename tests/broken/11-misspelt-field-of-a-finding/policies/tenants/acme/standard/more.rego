package tenants.acme.standard

block contains f.id if {
	some f in input.findings
	f.categry == "pii"
}
