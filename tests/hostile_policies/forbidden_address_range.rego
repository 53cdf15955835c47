# expect: load forbidden_builtin
# A policy is a pure function.
package demo

block contains "x" if count(net.cidr_expand("10.0.0.0/8")) > 0
