# expect: verdict error
# Each copy doubles the document.
package demo

block contains "x" if {
	some f in input.findings
	f.category == concat(".", ["secrets", "token"])
	p := [{"op": "copy", "from": "", "path": sprintf("/x%d", [i])} | some i in numbers.range(1, 40)]
	json.patch({"a": 1}, p) != {}
}
