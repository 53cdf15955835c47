"""Texts that hold secrets, by each rule's own pattern, and files of others that hold none."""

import json
import random
import re
import sys
from pathlib import Path

from texts.packages import crates, write

# Not that on which the rules were improved.
SEED = 20261207


def rows():
    """Texts made from each Gitleaks pattern, unlabelled: Gitleaks itself says what they hold. And
    files of others: sources and READMEs of the crates in Cargo.lock, Python's own library."""
    import rstr

    sys.modules["rstr.xeger"].STAR_PLUS_LIMIT = 500
    rules = json.loads(Path("src/detect/builtin/data/gitleaks.json").read_text())["rules"]
    for rule in rules:
        made = rstr.Rstr(random.Random(f"{SEED} {rule['id']}"))
        # Where case does not count, the case as written is one of those that count.
        pattern = re.sub(r"\(\?-?i\)", "", re.sub(r"\(\?-?i:", "(?:", rule["regex"])).replace("[[:alnum:]]", "[0-9A-Za-z]")
        pattern = pattern.replace(r"\z", "$")
        # Meant is the name of a host.
        pattern = re.sub(r"(?<=[a-z])\.(?=[a-z])", r"\.", pattern)
        for before, after in [("", ""), (f"# for {rule['keywords'][0]}\n", "\nend\n"), ('{"a": 1, "b": "x",\n ', "\n}")] * 7:
            yield {"set": f"rule {rule['id']}", "text": before + made.xeger(pattern) + after, "spans": []}
    for kind, ending, bytes_max in [("rust", "rs", 40_000_000), ("prose", "md", 8_000_000)]:
        found = [file for folder in crates() for file in sorted(folder.glob(f"**/*.{ending}"))]
        yield from files(kind, found, bytes_max)
    library = Path(json.__file__).parent.parent
    found = [file for file in sorted(library.glob("**/*.py")) if "site-packages" not in file.parts]
    yield from files("python", found, 30_000_000)


def files(kind, found, bytes_max):
    """Every n-th file, so that about `bytes_max` are read; those of a megabyte and more are tables."""
    found = [file for file in found if file.stat().st_size < 1_000_000]
    step = -(-sum(file.stat().st_size for file in found) // bytes_max)
    for file in found[:: max(step, 1)]:
        yield {"set": kind, "file": file.name, "text": file.read_text(errors="replace"), "spans": []}


def make():
    write("secrets", rows())
