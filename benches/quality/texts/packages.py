"""The files of the packages that scripts/quality-data fetched, and where texts go."""

import io
import json
import re
import subprocess
import tarfile
import zipfile
from functools import cache
from pathlib import Path

SEED = 20261121
OUT = Path("target/quality-data")


@cache
def package(name):
    """The package's files by path."""
    named = re.compile(re.sub("[-_]", "[-_]", name) + r"-\d", re.IGNORECASE)
    (path,) = [path for path in (OUT / "packages").iterdir() if named.match(path.name)]
    return unpacked(path.read_bytes(), path.name)


def unpacked(data, name):
    if name.endswith(".whl"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def found(name, pattern):
    """(path, text) of the package's files whose path the pattern matches whole, by path."""
    files = sorted(path for path in package(name) if re.fullmatch(pattern, path))
    assert files, (name, pattern)
    return [(path, text(package(name)[path])) for path in files]


def one(name, pattern):
    ((_, text),) = found(name, pattern)
    return text


def text(data):
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def crates():
    """The folders of the crates in Cargo.lock, by name and version."""
    said = subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], check=True, capture_output=True)
    fetched = [p for p in json.loads(said.stdout)["packages"] if p["source"]]
    return [Path(p["manifest_path"]).parent for p in sorted(fetched, key=lambda p: (p["name"], p["version"]))]


def write(name, rows):
    """Rows are dictionaries; the file is OUT/NAME.jsonl."""
    path = OUT / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
