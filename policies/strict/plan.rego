# Plans as the standard bundle does, over a tighter table.
package strict

import rego.v1

required := data.standard.required

optional := data.standard.optional

secondary := data.standard.secondary

skip := data.standard.skip

thresholds := data.standard.thresholds

resolve := data.standard.resolve

coverage := data.standard.coverage

execution := data.standard.execution

stages := data.standard.stages

timeouts := data.standard.timeouts

params := data.standard.params
