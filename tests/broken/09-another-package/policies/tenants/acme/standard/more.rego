package tenants.acme.standrd

block contains "x" if input.env == "staging"
