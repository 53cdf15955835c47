# expect: load recursion
# The stack overflows and ends the process.
package demo

f(n) := f(n + 1)

block contains "x" if f(1)
