# expect: load dynamic_input
# It hides what is read.
package demo

block contains "x" if input[input.env]
