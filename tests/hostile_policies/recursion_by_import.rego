# expect: load recursion
# The same by an import.
package demo

import data.demo.f as g

f(n) := g(n)

block contains "x" if f(1)
