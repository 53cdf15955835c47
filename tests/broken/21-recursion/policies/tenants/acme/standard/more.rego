package tenants.acme.standard

again(n) := again(n - 1)

block contains "x" if again(3) == 0
