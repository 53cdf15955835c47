package tenants.acme.standard

block contains "x" if input.request.priorty == "low"
