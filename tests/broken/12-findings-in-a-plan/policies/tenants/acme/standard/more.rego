package tenants.acme.standard

deny contains "x" if count(input.findings) > 0
