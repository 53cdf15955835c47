package tenants.acme.standard

block if {
	input.env == "staging"
}
