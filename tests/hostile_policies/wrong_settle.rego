# expect: load probe_bad_value
# A strategy must be named.
package demo

settle[c] := {"winner": 1} if some c, _ in input.categories
