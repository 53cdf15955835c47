# Which detectors to ask, read from the table.
package standard

import rego.v1

required contains name if some name in input.settings.required

optional contains name if {
	some name in input.settings.optional
	name != "*"
}

# "*" asks every visible detector that can judge this type of content.
optional contains detector.name if {
	"*" in input.settings.optional
	some detector in input.detectors
	input.request.type in detector.types
}

optional contains name if some name in input.strategy.detectors

secondary contains name if some name in input.settings.secondary

skip contains name if some name in input.settings.skip

thresholds := input.settings.thresholds

resolve := object.union(quorums, input.settings.resolve)

quorums := {category: {"quorum": votes} | some category, votes in input.settings.quorum}

coverage := input.settings.coverage

execution := input.settings.execution

stages := input.settings.stages

stop_on := input.settings.stop_on

timeouts := input.settings.timeouts

params := input.settings.params
