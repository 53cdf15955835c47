# expect: load forbidden_builtin
# A policy is a pure function.
package demo

block contains "x" if time.now_ns() > 1
