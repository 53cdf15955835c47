package tenants.acme.standard

block["x"] { input.env == "staging" }
