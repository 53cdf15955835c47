# expect: load too_deep
# The parser needs 40 minutes for this.
package demo

r := [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
