# expect: load value_too_large
# The same by a function.
package demo

f(x) := [x, x]

a0 := [input.env]
a1 := f(a0)
a2 := f(a1)
a3 := f(a2)
a4 := f(a3)
a5 := f(a4)
a6 := f(a5)
a7 := f(a6)
a8 := f(a7)
a9 := f(a8)
a10 := f(a9)
a11 := f(a10)
a12 := f(a11)
a13 := f(a12)
a14 := f(a13)
a15 := f(a14)
a16 := f(a15)
a17 := f(a16)
a18 := f(a17)
a19 := f(a18)

block contains "x" if a19 != []
