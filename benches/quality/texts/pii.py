"""Labelled texts of others' generators; a row is {"set", "text", "spans": [[kind, start, end], …]}
with positions in code points."""

import inspect
import random
import sys

from texts.packages import write

# Not that on which the rules were improved.
SEED = 20261207


def rows():
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


def make():
    write("pii", rows())
