# expect: load too_deep
# The same with parentheses.
package demo

r := ((((((((((((((((((((1))))))))))))))))))))
