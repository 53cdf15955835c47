package tenants.acme.standard

block contains "x" if http.send({"url": "http://a"}).status_code == 200
