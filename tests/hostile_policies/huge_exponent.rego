# expect: load number_too_large
# The lexer works out this number.
package demo

x := 1e999999999
