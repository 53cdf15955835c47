"""Turns the Gitleaks default configuration into gitleaks.json: convert.py gitleaks.toml > gitleaks.json

Paths do not exist here, so path-only conditions go; what cannot be used is listed in `left_out`.
`[\\w.-]{0,50}?` before a vendor's name only lengthens the match, never the secret: it goes too.
"""
import json, re, sys, tomllib

LEFT_OUT = {
    "pkcs12-file": "judges a file name, not a text",
    "freemius-secret-key": "only means anything in PHP files",
    "hashicorp-tf-password": "only means anything in Terraform files",
}

def rust(pattern):
    pattern = re.sub(r"(?<!\\)\{(?!\d+(?:,\d*)?\})", r"\\{", pattern)
    return pattern.replace(r"[\w.-]{0,50}?", "", 2) if r"[\w.-]{0,50}?" in pattern[:40] else pattern

def allow(lists):
    return [
        {"target": a.get("regexTarget", "secret"), "regexes": [rust(p) for p in a.get("regexes", [])], "stopwords": a.get("stopwords", [])}
        for a in lists if a.get("condition") != "AND"
    ]

source = tomllib.load(open(sys.argv[1], "rb"))
rules = [
    {"id": r["id"], "regex": rust(r["regex"]), "entropy": r.get("entropy", 0), "keywords": r["keywords"],
     "secret_group": r.get("secretGroup", 0), "allow": allow(r.get("allowlists", []))}
    for r in source["rules"] if r["id"] not in LEFT_OUT
]
json.dump({"left_out": LEFT_OUT, "allow": allow([source["allowlist"]]), "rules": rules}, sys.stdout, indent=0, ensure_ascii=False)
print()
