# expect: load forbidden_builtin
# A policy is a pure function.
package demo

block contains "x" if uuid.rfc4122("a") != ""
