# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a trace that OpenTelemetry's exporters send becomes, told before there are objects of it.

A span or an event that says nothing is two bytes in a request, a few hundred in memory and microseconds of a processor. So a
request is judged by how many things it has, and a limit of its bytes alone would be too wide for these or too narrow for texts.
"""

import json
import re

from mlflow_service.http.bodies import MIB, TooLarge

# Each is a field with a length (in JSON a bracket or a comma), and each span counts for more, since it becomes more.
MOST_THINGS, SPAN = 2_000_000, 10
# Fields without a length are looked at as well, and cost nobody else anything.
MOST_STEPS = 4 * MOST_THINGS
# Roughly what all this takes in memory.
FOR_A_BYTE, FOR_A_THING = 4, 256

# Which fields are messages, by their numbers in opentelemetry-proto. The content of all others is bytes.
VALUE: dict = {}
PAIR = {2: VALUE}
VALUE.update({5: {1: VALUE}, 6: {1: PAIR}})
RESOURCE, SCOPE = {1: PAIR, 3: {}}, {3: PAIR}
WITHIN_SPAN = {9: PAIR, 11: {3: PAIR}, 13: {4: PAIR}, 15: {}}
# Strings are passed over in one go, however long.
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)


class TooMany(TooLarge):
    pass


class _Count:
    """How many things there are so far, and how many steps it took to see them."""

    def __init__(self):
        self.things = self.steps = 0

    def add(self, things):
        self.things += things
        if self.things > MOST_THINGS:
            raise TooMany

    def fields(self, body, at, end):
        """Number, begin and end of each field with a length, as far as these are protocol buffers."""
        # Many small loops in one: this is most of the time that counting takes.
        while at < end:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise TooMany
            key, at = _number(body, at)
            kind = key & 7
            if kind == 2:
                size, at = _number(body, at)
                self.add(1)
                yield key >> 3, at, min(at + size, end)
                at += size
            elif kind == 0:
                _, at = _number(body, at)
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            elif kind not in (3, 4):
                return

    def inside(self, body, at, end, messages):
        """Count what is in a message, at whatever depth."""
        left = [(at, end, messages)]
        while left:
            at, end, messages = left.pop()
            for number, begin, last in self.fields(body, at, end):
                if number in messages and begin < last:
                    left.append((begin, last, messages[number]))


def _number(body, at):
    """A number in as many bytes as it takes, and where it ends."""
    found = body[at]
    at += 1
    if found < 0x80:
        return found, at
    found &= 0x7F
    shift = 7
    while True:
        byte = body[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return found, at
        shift += 7


def _in_protobuf(body):
    count = _Count()
    try:
        for number, begin, end in count.fields(body, 0, len(body)):
            if number == 1:
                _in_resource_spans(count, body, begin, end)
    except IndexError:
        # It ends too early. The parser will say so.
        pass
    return count.things


def _in_resource_spans(count, body, at, end):
    spans = about = 0
    for number, begin, last in count.fields(body, at, end):
        before = count.things
        if number == 1:
            count.inside(body, begin, last, RESOURCE)
            about += count.things - before
        elif number == 2:
            for inner, first, until in count.fields(body, begin, last):
                if inner == 2:
                    spans += 1
                    count.add(SPAN)
                    count.inside(body, first, until, WITHIN_SPAN)
                elif inner == 1:
                    count.inside(body, first, until, SCOPE)
    # Each span is given all that is said of its resource.
    count.add(spans * about)


def _listed(about, name):
    found = about.get(name) if isinstance(about, dict) else None
    return found if isinstance(found, list) else []


def _in_json(body):
    count = _Count()
    for token in TOKEN.finditer(body):
        if body[token.start()] != 0x22:
            count.add(1)
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return count.things
    for resource in [*_listed(said, "resourceSpans"), *_listed(said, "resource_spans")]:
        scopes = [*_listed(resource, "scopeSpans"), *_listed(resource, "scope_spans")]
        spans = sum(len(_listed(scope, "spans")) for scope in scopes)
        # By what it takes to say it, whatever that says.
        about = len(TOKEN.findall(json.dumps(resource.get("resource")).encode())) if spans else 0
        count.add(spans * (SPAN + about))
    return count.things


def things(body, is_json):
    """
    How many things a request has.

    :raises TooMany: where they are more than one request may have.
    """
    return _in_json(body) if is_json else _in_protobuf(body)


def memory(body, is_json):
    """Roughly how much memory a request takes while it is carried out; raises TooMany."""
    return FOR_A_BYTE * len(body) + FOR_A_THING * things(body, is_json)


def too_large(maximum):
    return f"The body is more than {maximum // MIB} MiB when it is unpacked."


TOO_MANY = f"These spans have more than {MOST_THINGS:,} attributes, events and other things together; send fewer at a time."
