# The answers of all layers joined as the orchestrator joins them. Sets are united and objects merged
# by key; of other values the later layer's wins; the floor's stand apart.
answer.plan := object.union(joined(plan), {"floor": joined(floor_plan)})

answer.conflict := joined(settle)

answer.verdict := object.union(joined(verdict), {"floor": joined(floor_verdict), "action": action})

joined(held) := {rule: merged(values(held, rule)) | some [_, rule, _] in held}

# Sorted by layer, earliest first.
values(held, rule) := [value | some [_, name, value] in sort(held); name == rule]

merged(values) := union({value | some value in values}) if {
	every value in values { is_set(value) }
} else := object.union_n(values) if {
	every value in values { is_object(value) }
} else := values[count(values) - 1]

# The highest that a rule gives; coverage, tenant and mode may change it.
default action := "allow"

action := [name | some name in ["block", "review", "redact", "flag"]; name in given][0]

given contains name if {
	some [_, name, entries] in floor_verdict
	count(entries) > 0
}

given contains name if {
	some [_, name, entries] in verdict
	some entry in entries
	not is_ignored(entry)
}

is_ignored(entry) if {
	some [_, "ignore", ids] in verdict
	entry.finding in ids
}
