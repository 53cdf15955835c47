"""Scores what was found against the labels, writes the tables, and before them a line of counts: score_pii.py TEXTS OURS PRESIDIO

A found span hits a label of the same kind: `strict` when both ends are equal, `overlap` when they
share a character. Labels and findings are paired one to one, equal ends first, then by position.
"""

import collections
import json
import sys

KINDS = ["email", "phone", "credit_card", "iban", "ssn", "national_id", "ip_address", "url", "date_of_birth"]
THRESHOLDS = [0.0, 0.3, 0.4, 0.5, 0.6]
# Presidio knows dates, not what happened on them.
AS = {"date_of_birth": "date"}


def pairs(labels, found):
    """How many labels are hit strictly and by overlap."""
    rest = collections.Counter((start, end) for start, end in found)
    open_, strict = [], 0
    for label in labels:
        if rest[label] > 0:
            rest[label] -= 1
            strict += 1
        else:
            open_.append(label)
    spare = sorted(rest.elements())
    overlap = strict
    for start, end in sorted(open_):
        hit = next((span for span in spare if span[0] < end and start < span[1]), None)
        if hit:
            spare.remove(hit)
            overlap += 1
    return strict, overlap


class Count:
    def __init__(self):
        self.labels = self.found = self.strict = self.overlap = 0

    def add(self, labels, found):
        strict, overlap = pairs(labels, found)
        self.labels += len(labels)
        self.found += len(found)
        self.strict += strict
        self.overlap += overlap

    def ratios(self, hits):
        precision = hits / self.found if self.found else 0.0
        recall = hits / self.labels if self.labels else 0.0
        return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


def count(texts, answers, kind, name, threshold):
    total = Count()
    for text, answer in zip(texts, answers):
        labels = [(start, end) for label, start, end in text["spans"] if label == kind]
        found = [(f[1], f[2]) for f in answer if f[0] == name and f[3] >= threshold]
        if name != kind:
            # Other dates are no mistake of a detector that claims no more than a date.
            found = [f for f in found if any(f[0] < end and start < f[1] for start, end in labels)]
        total.add(labels, found)
    return total


def best(texts, answers, kind, name):
    """The threshold that is best for it, and its counts there."""
    counts = [(threshold, count(texts, answers, kind, name, threshold)) for threshold in THRESHOLDS]
    return max(counts, key=lambda pair: pair[1].ratios(pair[1].overlap)[2])


def table(texts, ours, presidio):
    print("| kind | labels | ours P | R | F1 | F1 strict | Presidio P | R | F1 | F1 strict | its threshold |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        mine = count(texts, ours, kind, kind, 0.5)
        threshold, theirs = best(texts, presidio, kind, AS.get(kind, kind))
        cells = [f"{x:.3f}" for x in (*mine.ratios(mine.overlap), mine.ratios(mine.strict)[2])]
        cells += [f"{x:.3f}" for x in (*theirs.ratios(theirs.overlap), theirs.ratios(theirs.strict)[2])]
        print(f"| {kind} | {mine.labels} | {' | '.join(cells)} | {threshold} |")


def national(texts, ours, presidio):
    print("| number | labels | ours P | R | Presidio P | R |")
    print("|---|---|---|---|---|---|")
    sets = dict.fromkeys(text["set"] for text in texts if text["set"].startswith("national ids"))
    for name in sets:
        rows = [i for i, text in enumerate(texts) if text["set"] == name]
        pick = lambda lines: [lines[i] for i in rows]
        cells = []
        for answers, threshold in ((ours, 0.5), (presidio, 0.0)):
            counted = count(pick(texts), pick(answers), "national_id", "national_id", threshold)
            cells += [f"{x:.2f}" for x in counted.ratios(counted.overlap)[:2]]
        print(f"| {name.partition(': ')[2]} | {len(rows)} | {' | '.join(cells)} |")


def confusion(texts, answers, threshold):
    """What each label was taken for, and where findings without a label came from."""
    taken = collections.defaultdict(collections.Counter)
    for text, answer in zip(texts, answers):
        found = [f for f in answer if f[3] >= threshold]
        for kind, start, end in text["spans"]:
            over = {f[0] for f in found if f[1] < end and start < f[2]}
            for name in sorted(over - {kind}):
                taken[kind][name] += 1
            if not over:
                taken[kind]["nothing"] += 1
        for f in found:
            if not any(f[1] < end and start < f[2] for _, start, end in text["spans"]):
                taken["no label, " + text["set"].partition(":")[0]][f[0]] += 1
    print("| labelled | also or instead taken for |")
    print("|---|---|")
    for kind in sorted(taken):
        print(f"| {kind} | {', '.join(f'{name} {n}' for name, n in taken[kind].most_common(8))} |")


def read(path):
    return [json.loads(line) for line in open(path)]


def main():
    texts, ours, presidio = map(read, sys.argv[1:4])
    (*ours, our_end), (*presidio, their_end) = ours, presidio
    counts = [count(texts, ours, kind, kind, 0.5) for kind in KINDS]
    right = sum(kind.overlap for kind in counts)
    wrong = sum(kind.found for kind in counts) - right
    print(json.dumps({"texts": len(texts), "right": right, "wrong": wrong, "labels": sum(kind.labels for kind in counts)}))
    with_, without = (sum(bool(text["spans"]) == held for text in texts) for held in (True, False))
    print(f"{with_} texts with a structured kind and {without} without, {len({t['set'] for t in texts if t['spans']})} sets.\n")
    table(texts, ours, presidio)
    print()
    national(texts, ours, presidio)
    for name, answers, threshold in (("Ours", ours, 0.5), ("Presidio", presidio, 0.5)):
        print(f"\n{name}:\n")
        confusion(texts, answers, threshold)
    megabytes = sum(len(text["text"].encode()) for text in texts) / 1e6
    speed = [megabytes / end["seconds"] for end in (our_end, their_end)]
    print(f"\nSpeed on the same {megabytes:.2f} MB: ours {speed[0]:.1f} MB/s, {their_end['version']} {speed[1]:.4f} MB/s: {speed[0] / speed[1]:.0f} times, in processor time.")


if __name__ == "__main__":
    main()
