# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Where a request comes from is what nginx saw of the connection, never what a header says; nobody counts as the host itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from attacks import CLOSED, curl, holds, refused, tally, works
from clients import AJAX, AJAX3, API, API3, ARTIFACTS, Answer

HERE = Path(__file__).resolve().parent

ASSISTANT = f"{AJAX3}/assistant"
CONFIG = {"providers": {"ollama": {"model": "m", "base_url": "http://127.0.0.1:9", "selected": True}}}

# As many ways as there are to say "I am the host itself".
FORGED = {
    "X-Forwarded-For": [("X-Forwarded-For", "127.0.0.1")],
    "several values": [("X-Forwarded-For", "127.0.0.1, 10.0.0.1, 127.0.0.1")],
    "spaces and ports": [("X-Forwarded-For", " 127.0.0.1:1 ,127.0.0.1:2")],
    "several headers": [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "127.0.0.1")],
    "IPv6": [("X-Forwarded-For", "::1")],
    "IPv6 in brackets": [("X-Forwarded-For", "[::1]:80")],
    "IPv4 in IPv6": [("X-Forwarded-For", "::ffff:127.0.0.1")],
    "a name": [("X-Forwarded-For", "localhost")],
    "small letters": [("x-forwarded-for", "127.0.0.1")],
    "an underscore": [("X_Forwarded_For", "127.0.0.1")],
    "both spellings": [("X_Forwarded_For", "127.0.0.1"), ("X-Forwarded-For", "127.0.0.1")],
    "Forwarded": [("Forwarded", "for=127.0.0.1;host=localhost;proto=https")],
    "Forwarded, IPv6": [("Forwarded", 'for="[::1]:80"')],
    "X-Real-IP": [("X-Real-IP", "127.0.0.1")],
    "X-Client-IP and kin": [("X-Client-IP", "127.0.0.1"), ("True-Client-IP", "127.0.0.1"), ("CF-Connecting-IP", "127.0.0.1")],
    "a unix socket": [("X-Forwarded-For", "unix:"), ("X-Real-IP", "unix:")],
    "an empty one": [("X-Forwarded-For", "")],
    "taken away by Connection": [("Connection", "X-Forwarded-For, X-Real-IP"), ("X-Forwarded-For", "127.0.0.1")],
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_address_opens_nothing(people, world, forged):
    """On a connection that is kept, between honest calls."""
    user, headers = people.without_rights, FORGED[forged]
    works(user.get(f"{API}/users/current"))
    config = json.dumps(CONFIG).encode()
    refused(user.send("PUT", f"{ASSISTANT}/config", [*headers, ("Content-Type", "application/json")], config), *CLOSED)
    refused(user.send("GET", f"{ASSISTANT}/sessions/x/stream", headers), *CLOSED)
    refused(user.send("GET", f"{API}/experiments/get?experiment_id={world.experiment}", headers), 403)
    refused(people.stranger.send("GET", f"{API}/users/current", headers), 401)
    works(user.send("GET", f"{API}/users/current", headers))


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("forged", ["X-Forwarded-For", "several headers", "Forwarded", "an underscore"])
def test_a_forged_address_opens_nothing_to_curl(people, version, forged):
    user = people.without_rights
    headers = [argument for name, value in FORGED[forged] for argument in ("--header", f"{name}: {value}")]
    arguments = [version, *headers, "--request", "PUT", "--json", json.dumps(CONFIG)]
    refused(curl(user.address, f"{ASSISTANT}/config", *arguments, login=user), *CLOSED)
    refused(curl(user.address, f"{ASSISTANT}/config", *arguments), 401, *CLOSED)
    works(curl(user.address, f"{API}/users/current", version, *headers, login=user))


# The web page asks these, and is told by a constant that there is nothing.
CONSTANT = {
    "/config": {"providers": {}, "projects": {}, "remote_access_allowed": False},
    "/providers": {"providers": [], "resolved": None, "gateway_vendor_options": {}},
}
CONSTANT["/%63onfig"] = CONSTANT["/config"]
THERE = ["/config", "/providers", "/providers/ollama/models?base_url=http://127.0.0.1:9", "/sessions/x/stream", "/%63onfig"]
# What would be no route anyway, MLflow refuses users with 403.
NOT_THERE = ["", "/", "/config/", "/./config", "//config", "/x/../config", "/nothing"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_the_assistant_is_not_there(people, method):
    """Whoever has a login, and however it is spelled."""
    for spelling in [*THERE, *NOT_THERE]:
        for user in (people.without_rights, people.owner, people.admin):
            if method == "GET" and spelling in CONSTANT:
                holds(works(user.send(method, ASSISTANT + spelling)).json == CONSTANT[spelling])
                continue
            refused(user.send(method, ASSISTANT + spelling), *CLOSED, *((403, 405) if spelling in NOT_THERE else ()))
        refused(people.stranger.send(method, ASSISTANT + spelling), 401, *CLOSED)
    works(people.without_rights.get(f"{API}/users/current"))


def test_the_assistant_is_not_there_on_the_host_itself(server, admin):
    """Through nginx at 127.0.0.1 and on the service's own socket, where a tunnel or another proxy would come from."""
    login = f"user = {admin.username}:{admin.password}"
    asked = []
    for way in ("https://127.0.0.1", "--unix-socket /run/mlflow/mlflow.sock http://127.0.0.1"):
        for extra in ("", "--header 'X-Forwarded-For: 127.0.0.1'", "--header 'X-Forwarded-For: ::1'"):
            for path in ("providers/ollama/models", "sessions/x/stream"):
                asked += [(f"{extra} {way}{ASSISTANT}/{path}", login, CLOSED)]
            asked += [(f"{extra} {way}{ASSISTANT}/config", "", (401, *CLOSED))]
            asked += [(f"{extra} {way}{API}/users/current", login, None)]
    curls = "curl --silent --insecure --config - --output /dev/null --write-out '%{http_code}\\n'"
    script = "".join(f"{curls} {what} <<'LOGIN'\n{known}\nLOGIN\n" for what, known, _ in asked)
    for (what, _, wanted), status in zip(asked, server.run(script).split(), strict=True):
        answer = Answer(int(status), what=f"on the host: {what}")
        if wanted:
            refused(answer, *wanted)
        else:
            works(answer)


# Each location of nginx's that leads to the service.
LOCATIONS = [
    "/", "/ready", f"{API}/users/current", f"{ARTIFACTS}/1/x", "/ajax-api/2.0/mlflow-artifacts/artifacts/1/x", "/get-artifact?x",
    "/model-versions/get-artifact?x", "/v1/traces", "/health", f"{ASSISTANT}/config", "/graphql", "//ready", "/%72eady",
]  # fmt: skip
# The headers by which the service could be told where a request comes from, what it asks for and as whom.
TELLING = re.compile(
    r"(?i)^(x[-_]forwarded[-_](for|proto|host|prefix)|x[-_]real[-_]ip|forwarded|(x[-_])?script[-_]name|x[-_]ready.*)$"
)
LIES = [
    ("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "attacker.example.net"), ("X-Forwarded-Prefix", "/attacker"),
    ("X-Script-Name", "/attacker"), ("X-Ready-Details", "yes"), ("X_Forwarded_Host", "attacker.example.net"),
    ("X_Forwarded_Proto", "attacker"), ("X_Real_IP", "203.0.113.9"),
]  # fmt: skip
# What nothing here reads; that it opens nothing is tried above.
NOT_READ = ("Connection", "X-Client-IP")


@pytest.mark.parametrize("version", ["http1.1", "http2"])
def test_nothing_that_is_forged_arrives(server, version):
    """What the service is told by nginx's own configuration, wherever a request goes: what nginx saw, once, and no lie."""
    forgeries = [
        [(name, value.replace("127.0.0.1", "203.0.113.9").replace("::1", "2001:db8::9")) for name, value in headers]
        for headers in FORGED.values()
        if headers[0][0] not in NOT_READ
    ]
    asked = [(path, [], version) for path in LOCATIONS]
    for path in LOCATIONS:
        asked += [(path, [*LIES, *forgery], version) for forgery in (forgeries if path == "/" else forgeries[:2])]
    program = (HERE / "behind_nginx.py").read_text()
    script = f"cat >/run/behind_nginx.py <<'PROGRAM'\n{program}PROGRAM\n"
    script += f"/opt/mlflow/current/bin/python /run/behind_nginx.py <<'ASKED'\n{json.dumps(asked)}\nASKED\n"
    found = json.loads(server.run(script))
    honest, forged = found[: len(LOCATIONS)], found[len(LOCATIONS) :]
    wanted = {"x-forwarded-for": ["127.0.0.1"], "x-forwarded-proto": ["https"], "x-real-ip": ["127.0.0.1"]}
    for (path, *_), arrived in zip(asked, found, strict=True):
        if not arrived["line"] and arrived["instead"].lstrip().startswith("<html>"):
            # nginx's own word on it: it does not lead to the service at all.
            continue
        assert arrived["line"], f"{path}: {arrived}"
        told = {}
        for name, value in arrived["headers"]:
            if TELLING.match(name):
                told.setdefault(name.lower(), []).append(value)
        lies = [word for word in ("attacker", "203.0.113.9", "2001:db8::9", "gopher") if word in json.dumps(arrived)]
        assert not lies, f"{path}: {arrived}"
        host = told.pop("x-forwarded-host", None)
        assert host in (None, ["127.0.0.1:44301"], ["127.0.0.1"]), f"{path}: {host}"
        assert {name: values for name, values in told.items() if values != [""]} == wanted, f"{path}: {told}"
    tally["attacks"] += len(forged)
    tally["honest calls"] += sum(1 for arrived in honest if arrived["line"])
    assert sum(1 for arrived in honest if arrived["line"]) >= 5, honest


PLACES = {
    "X-Forwarded-Host": "attacker.example.net",
    "X-Forwarded-Prefix": "/attacker",
    "X-Script-Name": "/attacker",
    "X-Original-URL": f"{ASSISTANT}/config",
    "X-Rewrite-URL": f"{ASSISTANT}/config",
    "X-HTTP-Method-Override": "DELETE",
}


@pytest.mark.parametrize("header", PLACES)
def test_a_forged_place_leads_nowhere_else(people, world, header):
    """Neither the host, nor the path, nor the method is what such a header says."""
    user, forged = people.reader, {header: PLACES[header]}
    asked = {"experiment_id": world.experiment}
    plain = works(user.get(f"{API}/experiments/get", **asked))
    holds(user.call("GET", f"{API}/experiments/get", asked, forged).body == plain.body)
    for path in ("/", f"{API3}/server-info", "/static-files"):
        forged_answer, plain = user.call("GET", path, None, forged), user.get(path)
        said = forged_answer.body + json.dumps(forged_answer.headers).encode()
        assert forged_answer.status == plain.status and forged_answer.body == plain.body, str(forged_answer)
        holds(b"attacker" not in said, str(forged_answer))


def test_a_browser_of_another_page_writes_nothing(people, world):
    """The origin is compared with the server's own name, whatever is said of the host beside it."""
    user, path = people.owner, f"{AJAX}/experiments/set-experiment-tag"
    body = {"experiment_id": world.experiment, "key": "color", "value": "blue"}
    works(user.call("POST", path, body, {"Origin": f"https://{user.address}"}))
    others = ("https://attacker.example.net", "null", f"https://{user.address}.attacker.example.net", f"https://{user.address}:1")
    for origin in others:
        for extra in ({}, {"X-Forwarded-Host": "attacker.example.net"}, {"X-Forwarded-For": "127.0.0.1"}):
            refused(user.call("POST", path, body, {"Origin": origin, **extra}), 403)
    for host in ("attacker.example.net", "localhost.attacker.example.net", "169.254.169.254", f"{user.address}.example.net"):
        refused(user.call("GET", f"{API}/users/current", None, {"Host": host}), 400, 403, 421)
