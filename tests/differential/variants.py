# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a client may send instead of the right thing."""

from __future__ import annotations

import json

SCRIPTS = "größe 猫 🐈 שלום العربية"
WRONG = {
    "null": None, "a boolean": True, "a number": 12345, "a negative one": -1, "zero": 0, "one that is too large": 2**70,
    "a fraction": 0.5, "a word": "nope", "no word": "", "a list": ["x"], "an empty list": [], "an object": {"a": 1},
    "text in several scripts": SCRIPTS, "a NUL": "a\0b", "half a character": "a\ud800b", "a long text": "x" * 20_000,
    "a quote": "'; --", "an id that nobody has": "0" * 32, "a number in a word": "123456789", "NaN": float("nan"),
}  # fmt: skip
BODIES = {
    "no body": b"", "no JSON": b"{", "a list": b"[]", "a list with something": b'[{"a": 1}]', "null": b"null", "a word": b'"x"',
    "a number": b"7", "bytes": b"\xff\xfe", "a name twice": b'{"max_results": 1, "max_results": 2}',
    "a field that nobody knows": b'{"nobody_knows": 1}', "deep": b"[" * 3000 + b"]" * 3000,
}  # fmt: skip
TYPES = {
    "no content type": None, "a form": "application/x-www-form-urlencoded", "text": "text/plain",
    "JSON in Latin-1": "application/json; charset=latin-1",
}  # fmt: skip


# What is not asked of a plain server, since it is another one afterwards. It signs an address for each part that it is asked for,
# and a hundred million keep it busy for hours; and it takes a place on its own host for an experiment, which ours refuses
# (tests/security/test_sources.py), so that lists of experiments would differ from then on.
HARMFUL = {("num_parts", "a number in a word")} | {
    ("artifact_location", what)
    for what in ("a word", "text in several scripts", "an id that nobody has", "a number in a word")
}


def parameters(right, fields):
    """
    What is wrong, and what makes it of the right parameters: each field missing, and with each wrong content.

    :arg right: What the call wants to be told, at the least.
    :arg fields: {field: [type, whether it is repeated]} as MLflow has them, or nothing where it does not say.
    """
    if isinstance(right, bytes):
        return
    names = dict.fromkeys([*(name for name in right if not fields or name in fields), *fields])
    yield "nothing", lambda right: {}
    for name in names:
        if name in right:
            yield f"{name} missing", lambda right, name=name: {key: value for key, value in right.items() if key != name}
        for what, wrong in WRONG.items():
            if (name, what) in HARMFUL:
                continue
            yield f"{name} is {what}", lambda right, name=name, wrong=wrong: {**right, name: wrong}
            if fields.get(name, ["", False])[1]:
                yield f"{name} has {what}", lambda right, name=name, wrong=wrong: {**right, name: [wrong]}


def bodies():
    """What is wrong, what makes the body of the right parameters, and its content type."""
    for what, body in BODIES.items():
        yield what, lambda right, body=body: body, "application/json"
    for what, kind in TYPES.items():
        yield what, lambda right: right if isinstance(right, bytes) else json.dumps(right).encode(), kind
