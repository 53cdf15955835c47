package tenants.acme.standard

block contains "x" if {
	name := input.tenant.id
	input.env == "staging"
}
