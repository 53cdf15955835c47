package tenants.acme.standard_test

test_x if true

test_x if false
