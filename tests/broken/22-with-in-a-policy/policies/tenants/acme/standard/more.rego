package tenants.acme.standard

block contains "x" if data.standard.block with input as {}
