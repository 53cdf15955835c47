"""Asks Gitleaks about every text: gitleaks.py GITLEAKS TEXTS.jsonl > FOUND.jsonl

Each text is a file without a name that would be let pass. A line is a list of [rule, secret, line];
the last line says the version and the seconds of processor time.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

# Rules that judge files of such a name only.
NAMES = {"rule kubernetes-secret-yaml": "secret.yaml", "rule nuget-config-password": "nuget.config"}

program, texts = sys.argv[1], [json.loads(line) for line in open(sys.argv[2])]
with tempfile.TemporaryDirectory() as home:
    folder, report = Path(home, "texts"), Path(home, "report.json")
    folder.mkdir()
    for index, text in enumerate(texts):
        file = folder / str(index) / NAMES.get(text["set"], "text.txt")
        file.parent.mkdir()
        file.write_bytes(text["text"].encode())
    subprocess.run(
        [program, "dir", folder, "--report-format", "json", "--report-path", report, "--exit-code", "0",
         "--no-banner", "--log-level", "error", "--max-decode-depth", "0"],
        check=True,
    )  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    found = [[] for _ in texts]
    for finding in json.loads(report.read_text()):
        secret = finding["Secret"]
        found[int(Path(finding["File"]).parent.name)].append([finding["RuleID"], secret, finding["StartLine"]])
for answer in found:
    print(json.dumps(sorted(answer)))
version = subprocess.run([program, "version"], check=True, capture_output=True, text=True).stdout.strip()
print(json.dumps({"seconds": seconds, "version": f"Gitleaks {version}"}))
