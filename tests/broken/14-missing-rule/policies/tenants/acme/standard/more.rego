package tenants.acme.standard

block contains "x" if data.standard.blocks
