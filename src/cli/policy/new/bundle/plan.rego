# Which detectors to ask: as `standard` does, over the table of NAME.
package PACKAGE

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

stop_on := data.standard.stop_on

timeouts := data.standard.timeouts

params := data.standard.params
