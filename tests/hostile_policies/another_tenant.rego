# expect: load undefined_reference
# It is not in the unit.
package demo

block contains "x" if data.tenants.other.demo.secret
