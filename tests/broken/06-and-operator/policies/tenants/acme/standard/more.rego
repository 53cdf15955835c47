package tenants.acme.standard

block contains "x" if input.env == "staging" && input.request.has_context
