package tenants.acme.standard

blocks contains "x" if input.env == "staging"
