"""Open Policy Agent for the tests: one JSON command a line on standard input, one JSON answer a line
on standard output. Builtin errors are strict. Ends when its input does.

{"open": NAME, "modules": {path: text}, "data": {}}   a set of modules by a name; then {"ok": true}
{"bundle": NAME, "file": PATH}                        the same from a bundle, checked as OPA does
{"ask": NAME, "paths": [path], "inputs": [{}]}        for each input, for each path below `data`:
                                                      {"value": v} | {} where undefined | {"error": text}
"""

import json
import re
import sys
import tarfile

from opa_bindings.engine import OpaEngine, OpaError, OpaUndefinedError

# Loads the library, or says here why it cannot.
OpaEngine().close()
engines = {}


def open_engine(modules, data):
    engine = OpaEngine()
    for path, text in modules.items():
        engine.add_policy(path, text)
    engine.add_data(data)
    # Compiles the modules, so that a fault of theirs is told here.
    engine.eval_query("true")
    return engine


def open_bundle(file):
    with tarfile.open(file) as archive:
        files = {entry.name.lstrip("/"): archive.extractfile(entry).read() for entry in archive if entry.isfile()}
    manifest = json.loads(files.pop(".manifest"))
    data = json.loads(files.pop("data.json"))
    modules = {path: text.decode() for path, text in files.items() if path.endswith(".rego")}
    roots = [root.split("/") for root in manifest["roots"]]
    for path, text in modules.items():
        package = re.search(r"^package (.+)$", text, re.MULTILINE)[1]
        package = re.findall(r'\w+|"[^"]+"', package)
        package = [part.strip('"') for part in package]
        if not any(package[: len(root)] == root for root in roots):
            raise OpaError("roots", f"{path} is outside the roots of the manifest")
    for key in data:
        if not any(root[0] == key for root in roots):
            raise OpaError("roots", f"data.{key} is outside the roots of the manifest")
    return open_engine(modules, data)


def ask(engine, path, document):
    try:
        return {"value": engine.eval_document(path, document)}
    except OpaUndefinedError:
        return {}
    except OpaError as error:
        return {"error": str(error)}


def answer(command):
    if "open" in command:
        engines[command["open"]] = open_engine(command["modules"], command.get("data", {}))
        return {"ok": True}
    if "bundle" in command:
        engines[command["bundle"]] = open_bundle(command["file"])
        return {"ok": True}
    engine = engines[command["ask"]]
    paths = command["paths"]
    return [[ask(engine, path, document) for path in paths] for document in command["inputs"]]


for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except OpaError as error:
        said = {"error": str(error)}
    print(json.dumps(said), flush=True)
