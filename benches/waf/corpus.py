"""Writes what `bench-waf` reads: one JSON list [kind, text] a line, `benign …` or a kind of attack.

Usage: corpus.py SITE, where SITE holds the packages of requirements.lock. Nothing of them is run but
Faker, with a fixed seed. Repeated texts and blank lines are left out, and nothing else.
"""

import json
import pathlib
import sys

site = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(site))
from faker import Faker  # noqa: E402

ATTACKS = {
    "sqli": "sqli",
    "xss": "xss",
    "path_traversal": "traversal",
    "command_injection": "command",
    "ldap_injection": "ldap",
    "xxe": "xml_entity",
    "crlf_injection": "crlf",
}
LOCALES = (
    "en_US en_GB en_IE de_DE fr_FR it_IT es_ES pl_PL ja_JP zh_CN ru_RU ar_SA hi_IN pt_BR nl_NL sv_SE"
).split()
BENIGN = (
    "name company address street_address job phone_number email uri sentence paragraph catch_phrase "
    "license_plate ssn iban credit_card_full file_path mime_type date_time ipv6 password uuid4 sha256 "
    "json country city bs isbn13 currency color_name unix_partition user_name slug image_url profile text"
).split()
EACH = 25


def attacks():
    for folder, kind in ATTACKS.items():
        for path in sorted((site / "fray/payloads" / folder).iterdir()):
            text = path.read_text(errors="replace")
            if path.suffix != ".json":
                yield from ((kind, line) for line in text.splitlines() if not line.startswith("#"))
                continue
            entries = json.loads(text)
            for entry in entries["payloads"] if isinstance(entries, dict) else entries:
                yield kind, entry.get("payload") if isinstance(entry, dict) else entry


def benign():
    Faker.seed(20261121)
    for locale in LOCALES:
        fake = Faker(locale)
        for kind in BENIGN:
            for _ in range(EACH):
                try:
                    yield f"benign {kind}", str(getattr(fake, kind)())
                except AttributeError:  # A locale without this kind.
                    break
    agents = (site / "fake_useragent/data/browsers.jsonl").read_text()
    for line in agents.splitlines():
        yield "benign user_agent", json.loads(line)["useragent"]


seen = set()
for kind, text in [*attacks(), *benign()]:
    if isinstance(text, str) and text.strip() and text not in seen:
        seen.add(text)
        print(json.dumps([kind, text]))
