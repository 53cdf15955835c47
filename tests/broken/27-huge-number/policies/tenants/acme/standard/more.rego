package tenants.acme.standard

block contains "x" if input.request.type == 1e999999
