"""Makes the texts that detection is measured on: `texts.py NAME` writes target/quality/NAME.jsonl.

One function for each data set. A line is {"set", "text", "spans": [[kind, start, end], …]} with
positions in code points. scripts/quality runs this where the packages are.
"""

import inspect
import json
import random
import re
import sys
from pathlib import Path

SEED = 20261207
OUT = Path("target/quality")


def pii():
    """presidio-evaluator's templates with its own and Faker's values; and texts without any."""
    import numpy
    from faker import Faker
    from presidio_evaluator.data_generator import (
        PresidioSentenceFaker,
        presidio_additional_entity_providers,
        presidio_templates_file_path,
    )
    from presidio_evaluator.data_generator.faker_extensions.datasets import load_fake_person_df

    kinds = {
        "credit_card_number": "credit_card", "date_of_birth": "date_of_birth", "email": "email",
        "iban": "iban", "ip_address": "ip_address", "phone_number": "phone", "ssn": "ssn", "url": "url",
        "national_id": "national_id",
    }  # fmt: skip
    # A date without a word about birth is no date of birth to any reader.
    undated = "It's like that since {{date_of_birth}}"
    lines = presidio_templates_file_path.read_text(errors="replace").splitlines()
    templates = [line.strip().replace("\\n", "\n").replace("\\,", ",") for line in lines if line.strip()]
    has = lambda template, names: any("{{%s}}" % name in template.lower() for name in names)
    held = lambda template: has(template, kinds) and template != undated

    def faker(locale, own, dropped):
        """Seeded anew, so that each set stays the same whatever stands before it."""
        for seed in (random.seed, numpy.random.seed, Faker.seed):
            seed(SEED)
        # HospitalProvider would ask a service on the network, and no template needs it.
        names = {"HospitalProvider"} | (set() if own else {"PhoneNumberProviderNew", "AddressProviderNew"})
        return PresidioSentenceFaker(
            locale=locale, lower_case_ratio=0, sentence_templates=templates, random_seed=SEED,
            entity_providers=[p for p in presidio_additional_entity_providers if p.__name__ not in names],
            base_records=load_fake_person_df().drop(columns=dropped),
        )  # fmt: skip

    def filled(name, source, template, each):
        for _ in range(each):
            made = source._sentence_faker.parse(source._preprocess_template(template), 0)
            spans = [[kinds.get(s.entity_type), s.start_position, s.end_position] for s in made.spans]
            if template == undated:
                spans = []
            yield {"set": name, "text": made.full_text, "spans": sorted((s for s in spans if s[0]), key=lambda s: s[1])}

    source = faker("en_US", True, [])
    for template in templates:
        if held(template):
            rare = has(template, ["ssn", "ip_address", "iban", "date_of_birth", "url"])
            yield from filled("templates", source, template, 150 if rare else 40)
        else:
            yield from filled("templates without", source, template, 16)
    locales = ["en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_BR", "en_IN", "en_CA", "de_CH"]
    for locale in locales:
        source = faker(locale, False, ["phone_number", "email", "date_of_birth"])
        for template in templates:
            # Not every locale has secondary addresses and states.
            if held(template) and not has(template, ["ssn", "secondary_address", "state_abbr"]):
                yield from filled("locales", source, template, 5)
    source = faker("en_US", True, ["national_id"])
    frames = [t.replace("{{ssn}}", "{{national_id}}") for t in templates if "{{ssn}}" in t]
    for locale, method, name in [
        ("de_CH", "ssn", "AHV number"), ("en_CA", "ssn", "SIN"), ("en_IN", "aadhaar_id", "Aadhaar number"),
        ("es_ES", "nie", "NIE"), ("es_ES", "nif", "NIF"), ("fr_FR", "ssn", "NIR"), ("it_IT", "ssn", "codice fiscale"),
        ("nl_NL", "ssn", "BSN"), ("pl_PL", "pesel", "PESEL"), ("pt_BR", "cpf", "CPF"),
    ]:  # fmt: skip
        source._sentence_faker.factories[0].national_id = getattr(Faker(locale), method)
        for frame in frames:
            for said in (name, "number"):
                frame_said = frame.replace("social security number", said).replace("SSN", said)
                yield from filled(f"national ids: {name}" + (", unnamed" * (said != name)), source, frame_said, 20)
    yield from docstrings()


def secrets():
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
    sources = Path.home() / ".cargo/registry/src"
    lock = re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource', Path("Cargo.lock").read_text())
    for kind, ending, bytes_max in [("rust", "rs", 40_000_000), ("prose", "md", 8_000_000)]:
        found = [f for n, v in lock for f in sorted(sources.glob(f"*/{n}-{v}/**/*.{ending}"))]
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


def docstrings():
    """Paragraphs of the docstrings of Python's own library that hold no address."""
    found = []
    for name in sorted(sys.stdlib_module_names - {"antigravity", "this", "idlelib", "ipaddress"}):
        try:
            module = __import__(name)
        except Exception:
            continue
        docs = [inspect.getdoc(module)]
        for _, member in sorted(vars(module).items(), key=lambda pair: pair[0]):
            if getattr(member, "__module__", None) == name:
                docs += [inspect.getdoc(member)] if callable(member) else []
        for paragraph in "\n\n".join(filter(None, docs)).split("\n\n"):
            if 80 <= len(paragraph) <= 2000 and "@" not in paragraph and "://" not in paragraph:
                found.append(paragraph)
    for text in dict.fromkeys(found):
        yield {"set": "prose", "text": text, "spans": []}


def main():
    makers = {"pii": pii, "secrets": secrets}
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in makers:
        sys.exit(f"texts.py: name one data set: {', '.join(makers)}")
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / f"{name}.jsonl").open("w") as out:
        for line in makers[name]():
            out.write(json.dumps(line) + "\n")


main()
