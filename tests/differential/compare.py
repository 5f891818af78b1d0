# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Two servers on which the same is done, and what their answers say when each one's own ids and times are taken out of them."""

from __future__ import annotations

import base64
import json
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from clients import API
from meant import reason
from things import Things

tally = Counter()
# Those who may the least first.
CALLERS = ("stranger", "without_rights", "reader", "user", "editor", "manager", "owner", "admin")
# Whoever has no answer after so long has none.
SECONDS, SLOW = 20, 5
# Permissions of MLflow on the things of one experiment and one registered model.
PERMISSIONS = {"manager": "MANAGE", "user": "USE"}
# What is a side's own and says the same of each: times, names and signatures that were made up.
OWN = [
    # But not what a client has sent.
    (re.compile(r"(?!2026-01-01T00:00:00Z)20\d\d-[01]\d-[0-3]\d[T ][0-2]\d(:\d\d){2}(\.\d+)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"(?<![0-9a-zA-Z])1[6-9]\d{11}(?![0-9a-zA-Z])"), "<time>"),
    # The role that holds what a user was granted.
    (re.compile(r"__user_\d+__"), "__user_<number>__"),
    (re.compile(r"(?<=(user|role)_id=)\d+|(?<=Role with id=)\d+|(?<=Role permission with id=)\d+"), "<number>"),
    # What SQLAlchemy tells of a statement is full of a side's own, and of words that are shortened in its middle.
    (re.compile(r"(?s)(\(raised as a result of Query-invoked autoflush.*?\)\n)?(\((?:psycopg2|builtins)\.[\w.]+\)).*"), r"\2"),
    # The name of a run that was given none.
    (re.compile(r"^[a-z]+-[a-z]+-\d{1,3}$"), "<name>"),
    # What signs an address, and a form.
    (re.compile(r"([?&])X-Amz-.*"), r"\1<signature>"),
    (re.compile(r"(?<=[?&]uploadId=)[^&]+"), "<upload>"),
    (re.compile(r'(name="csrf_token" value=)"[^"]*"'), r"\1<token>"),
]  # fmt: skip
# What names a thing; experiments begin at 700000, see conftest.py.
IDS = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|(?<![0-9a-z])7\d{5}(?![0-9a-z])"
)
NAMED = ("experiment", "run", "logged_model", "trace", "assessment", "dataset", "issue", "label_schema", "scorer", "queue")
# Lists in whose order PostgreSQL gives rows as they lie, or runs that begin at once by their ids, where no order was asked for.
UNORDERED = ("permissions", "runs", "tags", "model_versions", "latest_versions", "access_endpoints", "mcp_access_endpoints")
# A set of Python's, which has no order.
SET = re.compile(r"\{('\w+'(?:, '\w+')+)\}")
# Numbers that count the rows of a table, and words that are made up each time.
COUNTED = re.compile(r"^(id|role_id|user_id|permission_id|.*_permission_id|scorer_version_id)$")
MADE_UP = {"upload_id": re.compile(r".+"), "digest": re.compile(r"[0-9a-f]{8}")}


def decoded(token):
    """What a token for the next page says; as it is where it says it in no way that is known."""
    try:
        return base64.b64decode(token, validate=True).decode()
    except ValueError:
        return token


class Side:
    """One of the two: its people, and one thing of each kind."""

    def __init__(self, name, chief, root, seed, learned=lambda known: None):
        """
        :arg chief: The administrator that there is already, of whom nothing is asked but to make the others.
        :arg root: Bucket and prefix of the artifacts.
        :arg learned: Told who has which password, when the server was given one.
        """
        self.name, self.chief, self.root, self.words, self.learned = name, chief, root, random.Random(seed), learned
        self.known = {chief.username: chief.password}
        names = ("without_rights", "reader", "neighbour", "user", "editor", "manager", "owner", "admin")
        self.people = SimpleNamespace(stranger=type(chief)(chief.address), **{name: self._user(name) for name in names})
        self.admin = self.people.admin
        chief.must("PATCH", f"{API}/users/update-admin", username=self.admin.username, is_admin=True)
        self.new_things()

    def _user(self, name):
        word = f"{self.words.getrandbits(64):016x}"
        user = self.chief.new_user(f"{name}-{word[:8]}", f"password-{word}")
        self.known[user.username] = user.password
        self.learned(self.known)
        return user

    def new_things(self):
        self.things = things = Things(self.people, self.admin.grant, self.words)
        grants = {"experiment": things.experiment, "registered_model": things.model, "mcp_server": things.mcp}
        for name, permission in PERMISSIONS.items():
            for kind, thing in grants.items():
                self.admin.grant(getattr(self.people, name), permission, kind, thing)

    def plainly(self, value, ordered=False):
        """
        What an answer says, without what is this side's own. Ids are numbered as they come, and those of its things are called by
        their names: an answer that has another's, or one twice, is another answer.
        """
        things = vars(self.things) if hasattr(self, "things") else {}
        found = {name: IDS.search(things[name]) for name in NAMED if isinstance(things.get(name), str)}
        known = {it[0]: name for name, it in found.items() if it}

        def named(found):
            return f"<{known.get(found[0], 'id')}>"

        value = value if ordered else self._in_order(value, named)

        def numbered(found):
            return "<" + known.setdefault(found[0], f"id {len(known)}") + ">"

        return self._without(value, numbered)

    def _in_order(self, value, name, key=""):
        if isinstance(value, dict):
            return {word: self._in_order(of, name, word) for word, of in value.items()}
        if isinstance(value, list):
            found = [self._in_order(one, name, key) for one in value]
            return sorted(found, key=lambda one: str(self._without(one, name))) if key in UNORDERED else found
        return value

    def _without(self, value, name, key=""):
        if isinstance(value, dict):
            return {self._without(word, name): self._without(of, name, word) for word, of in value.items()}
        if isinstance(value, list):
            return [self._without(one, name, key) for one in value]
        if isinstance(value, str):
            if key in MADE_UP and MADE_UP[key].fullmatch(value):
                return "<made up>"
            value = decoded(value) if key == "next_page_token" else value
            value = value.replace(self.root, "<root>")
            for pattern, word in OWN:
                value = pattern.sub(word, value)
            value = SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", value)
            return IDS.sub(name, value)
        if isinstance(value, int) and not isinstance(value, bool):
            if COUNTED.match(key):
                return "<number>"
            return f"number {self._without(str(value), name)}" if value > 600000 else value
        return value


class Twins:
    def __init__(self, ours, plain):
        self.ours, self.plain = self.sides = (ours, plain)
        self.pool = ThreadPoolExecutor(2)

    def both(self, do):
        """What a function returns for each side; both at once, since nothing of one depends on the other."""
        return list(self.pool.map(do, self.sides))

    def new_things(self):
        self.both(Side.new_things)

    def ask(self, make, caller):
        """
        One call on both.

        :arg make: What gives (method, path, parameters, headers) or with a fifth, the body as it is, for a side.
        :arg caller: One of CALLERS.
        :return: What ours and the plain one answered, as `said` has it.
        """

        def of(side):
            who = getattr(side.people, caller)
            method, path, parameters, headers, *body = make(side)
            order = parameters.get("order_by") if isinstance(parameters, dict) else None
            ordered = isinstance(order, list) and any(order)
            begun = time.monotonic()
            try:
                if body:
                    return self.said(side, who.send(method, path, headers, body[0], timeout=SECONDS))
                return self.said(side, who.call(method, path, parameters, headers, timeout=SECONDS), ordered)
            except OSError as error:
                return SimpleNamespace(status=0, kind="", body=f"no answer: {error!r}", headers={})
            finally:
                if (took := time.monotonic() - begun) > SLOW:
                    asked = f"{method} {path[:200]} {str(body or parameters)[:500]}"
                    print(f"{took:.0f} s on {side.name}, {caller}: {asked}", flush=True)

        tally["calls on both"] += 1
        return tuple(self.both(of))

    @staticmethod
    def said(side, answer, ordered=False):
        """Status, kind and content of an answer, without what is this side's own."""
        kind = answer.headers.get("content-type", "").split(";")[0]
        body = answer.body
        try:
            body = side.plainly(json.loads(body), ordered) if body else ""
        except ValueError:
            body = side.plainly(body.decode("utf-8", "replace"))
        return SimpleNamespace(status=answer.status, kind=kind, body=body, headers=answer.headers)


def different(ours, plain):
    """What is another thing, in a line; nothing where they answered alike. Two that did not answer are not alike."""
    if 0 in (ours.status, plain.status):
        return f"{ours.status} and {plain.status}: {ours.body!r} and {plain.body!r}"
    if ours.status != plain.status:
        return f"{ours.status} and not {plain.status}: {str(ours.body)[:300]!r} and not {str(plain.body)[:300]!r}"
    if ours.kind != plain.kind:
        return f"{ours.kind!r} and not {plain.kind!r}"
    if ours.body != plain.body:
        return f"{ours.status}: " + where(ours.body, plain.body)
    return None


def where(one, other, path=""):
    """The first place where two contents are not the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}, key=str):
            if one.get(name, ...) != other.get(name, ...):
                return where(one.get(name, "(nothing)"), other.get(name, "(nothing)"), f"{path}.{name}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            if a != b:
                return where(a, b, f"{path}[{number}]")
    return f"{path or 'body'} is {str(one)[:200]!r} and not {str(other)[:200]!r}"


class Found:
    """The differences that nobody meant."""

    def __init__(self):
        self.lines = []

    def look(self, what, method, route, answers):
        told = different(*answers)
        if told and not reason(method, route, *answers):
            self.lines.append(f"{method} {route}, {what}: {told}")
            # All of them take half an hour: whoever looks (pytest -s) is told at once.
            print(self.lines[-1], flush=True)

    def none(self):
        assert self.lines == [], "\n".join([f"{len(self.lines)} differences", *self.lines])
