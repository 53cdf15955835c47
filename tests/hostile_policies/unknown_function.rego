# expect: load unknown_function
# Nobody defines it.
package demo

block contains "x" if numbrs.range(1, 2)
