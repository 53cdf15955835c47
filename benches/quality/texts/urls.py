"""Deceiving and honest hosts."""

import json
import random
import re

from texts.language import messages
from texts.packages import SEED, found, one, write


def rows():
    """Hosts of known frauds written in punycode, imitations made from Unicode's table, and honest hosts."""
    config = json.loads(one("eth-phishing-detect", "package/src/config.json"))
    for host in config["blacklist"]:
        if "xn--" in host:
            yield {"set": "known frauds, punycode", "text": f"see https://{host}/ now", "bad": True}
            try:
                shown = host.encode().decode("idna")
            except UnicodeError:
                continue
            yield {"set": "known frauds, as letters", "text": f"see https://{shown}/ now", "bad": True}
    honest = [host for host in config["whitelist"] if re.fullmatch(r"[a-z0-9.-]+", host)]
    table = json.loads(one("confusable-homoglyphs", "confusable_homoglyphs/confusables.json"))
    alike = {}
    for letter, others in table.items():
        for other in others:
            if re.fullmatch("[a-z]", other["c"]) and len(letter) == 1 and letter.isalpha() and not letter.isascii():
                # What NFKC turns into ASCII names the honest host itself.
                if letter.lower() == letter and letter.isidentifier():
                    alike.setdefault(other["c"], []).append(letter)
    dice = random.Random(SEED)
    for host in honest:
        name, zone = host.rsplit(".", 1)
        places = [at for at, c in enumerate(name) if c in alike]
        if len(name) < 4 or not places:
            continue
        for count, label in [(1, "one letter imitated"), (len(places), "all letters imitated")]:
            made = list(name)
            for at in dice.sample(places, count):
                made[at] = dice.choice(alike[name[at]])
            made = "".join(made)
            try:
                same = made.encode("idna").decode() == name
            except UnicodeError:
                continue
            if not same:
                yield {"set": label, "text": f"see https://{made}.{zone}/ now", "bad": True}
    for host in honest:
        yield {"set": "honest hosts", "text": f"see https://{host}/ now", "bad": False}
    zones = {"ru": "рф", "uk": "укр", "bg": "бг", "el": "ελ", "de": "de", "fr": "fr", "sv": "se", "es": "es",
             "pl": "pl", "cs": "cz", "tr": "tr", "vi": "vn", "ja": "jp", "ko": "kr", "zh_Hans": "cn", "ar": "com",
             "he": "com", "hi": "com", "th": "com", "pt": "pt", "da": "dk", "fi": "fi", "hu": "hu", "ro": "ro"}  # fmt: skip
    for language, text in messages(list(zones)):
        words = {w for w in re.findall(r"[^\W\d_]{4,12}", text.lower()) if not w.isascii()}
        for word in sorted(words)[::7]:
            yield {"set": "honest names of one language", "text": f"see https://{word}.{zones[language]}/ now", "bad": False}
    for _, page in found("django", ".*/docs/.*[.]txt"):
        for link in sorted(set(re.findall(r"https?://[\w./~-]+\w", page)))[:20]:
            yield {"set": "links of documentation (Django)", "text": f"see {link} now", "bad": False}


def make():
    write("urls", rows())
