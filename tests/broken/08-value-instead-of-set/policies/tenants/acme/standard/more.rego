package tenants.acme.standard

review := "look" if input.env == "staging"
