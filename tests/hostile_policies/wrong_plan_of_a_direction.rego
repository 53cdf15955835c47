# expect: load probe_bad_value
# A plan that no request of that direction could follow.
package demo

thresholds := {"pii": 2} if input.request.direction == "retrieval"
