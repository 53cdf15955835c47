# expect: load recursion
# Rules that need each other.
package demo

a if not b

b if not a

block contains "x" if a
