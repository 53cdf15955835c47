# expect: load probe_error
# Thirty million numbers.
package demo

block contains "x" if count(numbers.range(1, 30000000)) > 1
