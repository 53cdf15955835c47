# expect: load with_in_policy
# The engine keeps values over `with`.
package demo

block contains "x" if input.env == "a" with input as {}
