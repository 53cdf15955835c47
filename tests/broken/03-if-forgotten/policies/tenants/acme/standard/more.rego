package tenants.acme.standard

block contains "x" { input.env == "staging" }
