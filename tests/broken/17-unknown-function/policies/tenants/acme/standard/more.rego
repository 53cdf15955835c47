package tenants.acme.standard

block contains "x" if start_with(input.env, "s")
