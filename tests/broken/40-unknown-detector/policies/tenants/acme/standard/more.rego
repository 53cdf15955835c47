package tenants.acme.standard

required contains "secretz"
