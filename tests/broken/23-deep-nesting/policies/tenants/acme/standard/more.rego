package tenants.acme.standard

list := [[[[[[[[[[[[1]]]]]]]]]]]]
