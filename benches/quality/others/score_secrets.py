"""Scores our findings beside those of Gitleaks: score_secrets.py TEXTS OURS GITLEAKS

On the generated texts Gitleaks is the label: a secret of it is found `strictly` when one of ours is
the same characters, and `by overlap` when one shares a character with it. On the files of others
nothing is a label: each finding is listed by rule, and how many of ours Gitleaks has too.
"""

import collections
import contextlib
import io
import json
import sys

OWN = {"DATABASE_URL", "PASSWORD"}


def label(rule):
    return "AWS_ACCESS_KEY" if rule == "aws-access-token" else rule.upper().replace("-", "_")


def spans(text, secret):
    """Every place of the secret, or its first line's: Gitleaks names lines, not characters."""
    at, places = text.find(secret), []
    while at >= 0:
        places.append((at, at + len(secret)))
        at = text.find(secret, at + 1)
    return places


def touches(place, found):
    return any(place[0] < end and start < place[1] for _, start, end, *_ in found)


def recall(texts, ours, theirs):
    rules = collections.defaultdict(lambda: [0, 0, 0])
    made = set()
    for text, mine, answer in zip(texts, ours, theirs):
        if not text["set"].startswith("rule "):
            continue
        made.add(text["set"][5:])
        for rule, secret, _ in answer:
            places = spans(text["text"], secret)
            if not places:
                continue
            count = rules[rule]
            count[0] += 1
            strict = any((start, end) in places for _, start, end, *_ in mine)
            hit = strict or any(touches(place, mine) for place in places)
            count[1] += strict
            count[2] += hit
    total = [sum(count[i] for count in rules.values()) for i in range(3)]
    print(f"Gitleaks finds {total[0]} secrets by {len(rules)} rules. Ours: {total[1]} strictly ({total[1] / total[0]:.4f}), {total[2]} by overlap ({total[2] / total[0]:.4f}).")
    print(f"\nRules whose own texts Gitleaks never finds, so not measured: {', '.join(sorted(made - set(rules))) or 'none'}.")
    print("\n| rule, where a secret is missed or cut otherwise | secrets | strict | overlap |\n|---|---|---|---|")
    for rule, (n, strict, overlap) in sorted(rules.items()):
        if strict < n:
            print(f"| {rule} | {n} | {strict} | {overlap} |")
    return total[2], total[0]


def alarms(texts, ours, theirs):
    print("\n| files | N | MB | ours | per MB | Gitleaks | per MB | both |\n|---|---|---|---|---|---|---|---|")
    by_rule = collections.defaultdict(lambda: [0, 0])
    for name in ("rust", "python", "prose"):
        rows = [row for row in zip(texts, ours, theirs) if row[0]["set"] == name]
        size = sum(len(text["text"].encode()) for text, *_ in rows) / 1e6
        mine = both = yours = 0
        for text, found, answer in rows:
            places = [place for _, secret, _ in answer for place in spans(text["text"], secret)]
            mine += len(found)
            yours += len(answer)
            both += sum(any(start < end2 and start2 < end for start2, end2 in places) for _, start, end, *_ in found)
            for finding in found:
                by_rule[finding[4]][0] += 1
            for rule, *_ in answer:
                by_rule[label(rule)][1] += 1
        print(f"| {name} | {len(rows)} | {size:.1f} | {mine} | {mine / size:.2f} | {yours} | {yours / size:.2f} | {both} |")
    print("\n| rule | ours | Gitleaks |\n|---|---|---|")
    for name, (mine, yours) in sorted(by_rule.items(), key=lambda row: -sum(row[1])):
        print(f"| {name}{' (own)' if name in OWN else ''} | {mine} | {yours} |")
    return sum(mine for mine, _ in by_rule.values())


def read(path):
    return [json.loads(line) for line in open(path)]


def main():
    texts, (*ours, our_end), (*theirs, their_end) = map(read, sys.argv[1:4])
    with contextlib.redirect_stdout(io.StringIO()) as tables:
        right, labels = recall(texts, ours, theirs)
        wrong = alarms(texts, ours, theirs)
    print(json.dumps({"texts": len(texts), "right": right, "wrong": wrong, "labels": labels}))
    print(tables.getvalue(), end="")
    megabytes = sum(len(text["text"].encode()) for text in texts) / 1e6
    print(f"\nSpeed on the same {megabytes:.1f} MB: ours {megabytes / our_end['seconds']:.0f} MB/s; {their_end['version']}, which also reads the files, {megabytes / their_end['seconds']:.1f} MB/s. Both in processor time.")


if __name__ == "__main__":
    main()
