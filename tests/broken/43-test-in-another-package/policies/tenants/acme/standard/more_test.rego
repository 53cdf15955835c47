package tenants.acme.standard

test_x if true
