# expect: load wrong_arity
# It takes one argument.
package demo

block contains "x" if count(1, 2) > 1
