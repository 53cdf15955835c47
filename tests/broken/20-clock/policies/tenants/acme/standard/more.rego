package tenants.acme.standard

block contains "x" if time.now_ns() > 0
