# expect: load recursion
# The same by a detour.
package demo

f(n) := g(n)

g(n) := f(n)

block contains "x" if f(1)
