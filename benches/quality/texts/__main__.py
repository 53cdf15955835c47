"""Makes the texts that detection is measured on: `python -m texts NAME…` writes
target/quality-data/NAME.jsonl, one JSON object a line. scripts/quality-data runs it."""

import importlib
import sys

for name in sys.argv[1:]:
    importlib.import_module(f"texts.{name}").make()
