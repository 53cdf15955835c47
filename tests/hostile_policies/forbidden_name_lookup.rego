# expect: load forbidden_builtin
# A policy is a pure function.
package demo

block contains "x" if count(net.lookup_ip_addr("example.com")) > 0
