package tenants.acme.standard

block contains "x" if startswith(input.env)
