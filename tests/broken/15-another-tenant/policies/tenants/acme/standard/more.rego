package tenants.acme.standard

block contains "x" if data.tenants.globex.standard.block
