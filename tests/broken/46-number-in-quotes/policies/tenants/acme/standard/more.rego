package tenants.acme.standard

block contains f.label if {
	some f in input.findings
	f.score > "0.5"
}
