# expect: load forbidden_builtin
# A policy is a pure function.
package demo

block contains "x" if http.send({"method": "get", "url": "http://example.com"}).status_code == 200
