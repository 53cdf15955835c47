package tenants.acme.standard

block contains "x" if object.subset(input, input)
