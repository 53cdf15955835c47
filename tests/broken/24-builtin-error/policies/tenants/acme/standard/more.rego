package tenants.acme.standard

block contains "x" if to_number("12x") > 1
