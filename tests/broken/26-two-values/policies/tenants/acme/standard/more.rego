package tenants.acme.standard

execution := "parallel"

execution := "cascade" if input.env == "development"
