# expect: load recursion
# The same by the full path.
package demo

f(n) := data["demo"].f(n)

block contains "x" if f(1)
