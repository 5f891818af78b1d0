# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The AI gateway, switched on for these tests: who may ask a model, with whose key, and what else the server is made to ask.

The provider is that of outside.py.
"""

from __future__ import annotations

import json
import secrets
import time
from types import SimpleNamespace

import pytest
from attacks import holds, refused, works
from clients import AJAX3, API3
from outside import PAUSE, PUBLIC, URL, WORDS
from routes import CLOSED, who_may

pytestmark = [pytest.mark.slow, pytest.mark.everyday]
GATEWAY = f"{API3}/gateway"
ASKED = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module", autouse=True)
def opened(deployment, server):
    """The gateway is switched on by its variable and off again, as a person would; or it is on already, for who works on this."""
    if deployment.as_it_is and "gateway" in server.run("grep ^MLFLOW_SERVER_OPENED= /etc/mlflow/mlflow.env"):
        yield
        return
    deployment.variables["mlflow_server_gateway"] = True
    try:
        code, output = deployment.site()
        assert code == 0, output[-6000:]
        yield
    finally:
        del deployment.variables["mlflow_server_gateway"]
        code, output = deployment.site()
    assert code == 0, output[-6000:]


def endpoint_of(user, name, definition):
    models = [{"model_definition_id": definition["model_definition_id"], "linkage_type": "PRIMARY", "weight": 1.0}]
    user.must("POST", f"{GATEWAY}/endpoints/create", name=name, model_configs=models, usage_tracking=False)


def key_of(user, name, value, **more):
    asked = {"secret_name": name, "secret_value": {"api_key": value}, "provider": "openai", **more}
    return user.call("POST", f"{GATEWAY}/secrets/create", asked)


@pytest.fixture(scope="module")
def endpoint(opened, people, grant, outside):
    """One of the owner's, which the reader may use; all others may do with it what anybody may, or less."""
    again = secrets.token_hex(4)
    found = SimpleNamespace(name=f"model-of-{again}", secret_name=f"key-{again}", key=f"sk-the-providers-{secrets.token_hex(12)}")
    made = works(key_of(people.owner, found.secret_name, found.key, auth_config={"api_base": f"{URL}/v1"})).json
    found.secret = made["secret"]["secret_id"]
    made = people.owner.must("POST", f"{GATEWAY}/model-definitions/create", name=f"definition-{again}", secret_id=found.secret,
                             provider="openai", model_name="mock")  # fmt: skip
    found.definition = made["model_definition"]["model_definition_id"]
    found.models = [{"model_definition_id": found.definition, "linkage_type": "PRIMARY", "weight": 1.0}]
    made = people.owner.must("POST", f"{GATEWAY}/endpoints/create", name=found.name, model_configs=found.models,
                             usage_tracking=False)  # fmt: skip
    found.id = made["endpoint"]["endpoint_id"]
    grant(people.reader, "USE", "gateway_endpoint", found.id)
    for kind, thing in (("endpoint", found.id), ("secret", found.secret), ("model_definition", found.definition)):
        grant(people.neighbour, "DENY", f"gateway_{kind}", thing)
    return found


def ways(endpoint):
    """Path and body of each way to ask the endpoint, as far as the provider speaks it."""
    named = {"model": endpoint.name, **ASKED}
    return [
        ("/gateway/mlflow/v1/chat/completions", named), (f"/gateway/{endpoint.name}/mlflow/invocations", ASKED),
        ("/gateway/openai/v1/chat/completions", named),
    ]  # fmt: skip


def test_whoever_may_use_an_endpoint_asks_its_model_with_its_key(people, endpoint, outside):
    for number, (path, body) in enumerate(ways(endpoint)):
        for user in (people.reader, people.owner, people.admin):
            answer = works(user.call("POST", path, body))
            assert answer.json["choices"][0]["message"]["content"] == "".join(WORDS)
        told = outside.told("/v1/chat/completions")
        assert len(told) == 3 * (number + 1) and told[-1]["headers"]["authorization"] == f"Bearer {endpoint.key}"
        assert json.loads(told[-1]["body"])["model"] == "mock"


def test_nobody_else_does(people, endpoint, outside):
    """A login alone is not enough: what anybody may by default is to see that there is one."""
    before = len(outside.told())
    others = [(f"/gateway/{kind}", {"model": endpoint.name, **ASKED}) for kind in (
        "openai/v1/embeddings", "openai/v1/responses", "anthropic/v1/messages")]  # fmt: skip
    gemini = f"/gateway/gemini/v1beta/models/{endpoint.name}"
    others += [(f"{gemini}:generateContent", ASKED), (f"{gemini}:streamGenerateContent", ASKED)]
    for path, body in ways(endpoint) + others:
        refused(people.stranger.call("POST", path, body), 401)
        for user in (people.without_rights, people.neighbour, people.editor):
            refused(user.call("POST", path, body), 403)
    listed = works(people.neighbour.get("/gateway/mlflow/v1/models")).json["data"]
    holds(endpoint.name not in [model["id"] for model in listed])
    assert endpoint.name in [model["id"] for model in works(people.reader.get("/gateway/mlflow/v1/models")).json["data"]]
    refused(people.stranger.get("/gateway/mlflow/v1/models"), 401)
    holds(len(outside.told()) == before, "the provider was asked")


def test_each_route_is_refused_to_who_may_not(routes, people, endpoint):
    """Those that MLflow itself names, on the owner's things. What is not open is there for nobody."""
    of = {"endpoint_id": endpoint.id, "secret_id": endpoint.secret, "model_definition_id": endpoint.definition}
    model = {"model_config": endpoint.models[0]}
    more = {
        "secrets/update": {"secret_value": {"api_key": "stolen"}}, "endpoints/set-tag": {"key": "a", "value": "b"},
        "endpoints/delete-tag": {"key": "a"}, "endpoints/models/attach": model, "model-definitions/update": {"model_name": "x"},
        "endpoints/update": {"name": "stolen"}, "endpoints/bindings/create": {"resource_type": "scorer", "resource_id": "1"},
        "endpoints/bindings/delete": {"resource_type": "scorer", "resource_id": "1"},
        # Somebody else's key, in a thing of one's own.
        "model-definitions/create": {"name": "stolen", "provider": "openai", "model_name": "x"},
        "endpoints/create": {"name": "stolen", "model_configs": endpoint.models},
        "endpoints/models/detach": {}, "secrets/get": {}, "secrets/delete": {}, "model-definitions/get": {},
        "model-definitions/delete": {}, "endpoints/get": {}, "endpoints/delete": {}, "endpoints/bindings/list": {},
        "guardrails/list-for-endpoint": {}, "guardrails/get": {"guardrail_id": "1"}, "guardrails/list": {},
    }  # fmt: skip
    # Of what there is they tell what somebody may see, and of MLflow what it knows.
    anybody = {"secrets/list", "secrets/config", "model-definitions/list", "endpoints/list", "supported-models",
               "supported-providers", "provider-config", "budgets/get", "budgets/list", "budgets/windows"}  # fmt: skip
    anew = {"secrets/create"}
    closed, asked = [], set()
    for method, route in routes:
        api, found, kind = route.partition("/mlflow/gateway/")
        if not found:
            if route.startswith("/gateway/") and ("/proxy/" in route or route.endswith(("/compact", "/systemone"))):
                closed.append((method, route.replace("<endpoint_name>", endpoint.name).replace("<path:path>", "v1/x")))
            continue
        if kind not in more and kind not in anybody | anew:
            closed.append((method, route))
            continue
        asked.add(kind)
        refused(people.stranger.call(method, route, {**of, **more.get(kind, {})}), 401)
        if kind in more:
            refused(people.neighbour.call(method, route, {**of, **more[kind]}), 403)
    assert asked == set(more) | anybody | anew
    assert len(closed) > 10
    for method, route in closed:
        refused(people.admin.call(method, route, of), 404)
    works(people.owner.get(f"{GATEWAY}/endpoints/get", endpoint_id=endpoint.id))
    # The table says of all of it that it is closed, which it is where the gateway is off.
    assert {who_may(method, route) for method, route in routes if "/mlflow/gateway/" in route} == {CLOSED}


def test_a_providers_key_is_told_to_nobody(people, endpoint, server, deployment):
    for api in (API3, AJAX3):
        for path, asked in (("secrets/list", {}), ("secrets/get", {"secret_id": endpoint.secret}),
                            ("endpoints/get", {"endpoint_id": endpoint.id}), ("endpoints/list", {})):  # fmt: skip
            answer = works(people.owner.call("GET", f"{api}/gateway/{path}", asked))
            holds(endpoint.key.encode() not in answer.body, f"{path} tells the key")
    listed = works(people.neighbour.get(f"{GATEWAY}/secrets/list")).body
    holds(endpoint.secret.encode() not in listed and endpoint.secret_name.encode() not in listed)
    with deployment.connect("mlflow") as database:
        rows = database.execute("SELECT * FROM secrets").fetchall()
    holds(rows and endpoint.key not in str(rows) and endpoint.key.encode() not in b"".join(bytes(row[2]) for row in rows))


OPENS = """
import psycopg2
from mlflow_service.compat import gateway
from mlflow.utils.crypto import DEFAULT_KEK_PASSPHRASE
connection = psycopg2.connect("service=mlflow")
cursor = connection.cursor()
cursor.execute("SELECT secret_name, wrapped_dek, kek_version FROM secrets")
rows = cursor.fetchall()
own = open("/etc/mlflow/gateway-passphrase").read().strip()
print("LOCKED", len(rows), len(gateway.locked(rows, DEFAULT_KEK_PASSPHRASE)), len(gateway.locked(rows, own)))
"""


def test_keys_are_locked_by_a_passphrase_that_is_shown_to_nobody(server, deployment, endpoint):
    passphrase = deployment.content("mlflow/mlflow/gateway-passphrase")["key"]
    assert server.run("cat /etc/mlflow/gateway-passphrase") == passphrase
    words = server.python(OPENS).partition("LOCKED ")[2].split()
    assert int(words[0]) > 0
    holds(words[1] == words[0] and words[2] == "0", "MLflow's own passphrase opens a key")
    shown = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /etc/mlflow/mlflow.env; journalctl -o cat; systemctl show mlflow"
    pattern = "--file=/etc/mlflow/gateway-passphrase"
    count = server.run(f"({shown}) 2>/dev/null | grep --text --count --fixed-strings {pattern} || true")
    holds(count == "0", "the passphrase is in a command line, an environment, the settings or the journal")


@pytest.mark.parametrize("agent", ["claude-cli/2.0 (external, cli)", "codex_cli_rs/1.0", "curl/8"])
def test_a_login_is_not_passed_on_to_a_provider(people, endpoint, outside, agent):
    """MLflow passes on the header of programs that bring a provider's key of their own."""
    user, path = people.reader, "/gateway/openai/v1/chat/completions"
    body = json.dumps({"model": endpoint.name, **ASKED}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": agent}
    works(user.call("POST", path, body, headers))
    holds(user.login["Authorization"].split()[1] not in str(outside.told()[-1]["headers"]), "the password went to the provider")
    # Such a program logs in by another header, and its own key is what the provider sees.
    own = {**headers, "Authorization": "Bearer of-my-own", "X-MLflow-Authorization": user.login["Authorization"]}
    works(user.call("POST", path, body, own))
    told = outside.told()[-1]["headers"]
    assert told["authorization"] == ("Bearer of-my-own" if not agent.startswith("curl") else f"Bearer {endpoint.key}")
    holds("x-mlflow-authorization" not in told)
    wrong = {**own, "X-MLflow-Authorization": people.reader.known_as("wrong").login["Authorization"]}
    refused(user.call("POST", path, body, wrong), 401)
    # Elsewhere that header is none.
    refused(people.stranger.call("GET", f"{API3}/users/current/permissions", {}, {
        "X-MLflow-Authorization": user.login["Authorization"]}), 401)  # fmt: skip


def test_an_answer_comes_word_by_word(people, endpoint):
    connection = people.reader._connect(60)
    body = json.dumps({"model": endpoint.name, "stream": True, **ASKED}).encode()
    connection.request("POST", "/gateway/mlflow/v1/chat/completions", body, {
        **people.reader.login, "Content-Type": "application/json"})  # fmt: skip
    answer, begin, found = connection.getresponse(), None, b""
    assert answer.status == 200
    while WORDS[1].encode() not in found:
        piece = answer.read1(65536)
        assert piece, found
        found += piece
        if begin is None and WORDS[0].strip().encode() in found:
            begin = time.monotonic()
    assert time.monotonic() - begin > PAUSE / 2
    connection.close()


@pytest.mark.parametrize("base", [
    "https://127.0.0.1:8443/v1", "https://169.254.169.254/latest", "https://[::1]/", "https://10.0.0.1/v1", "https://OWN/v1",
    "https://localhost/v1", "https://127.1/v1", "https://[::ffff:7f00:1]/", "http://example.com/v1", "file:///etc/mlflow/mlflow.env",
])  # fmt: skip
def test_a_key_is_for_a_public_provider(people, server, base):
    base = base.replace("OWN", server.address)
    refused(key_of(people.owner, f"inwards-{secrets.token_hex(4)}", "sk", auth_config={"api_base": base}), 400)
    refused(key_of(people.owner, f"inwards-{secrets.token_hex(4)}", "sk", auth_config={"base_url": base}), 400)


def test_it_is_looked_at_again_when_the_model_is_asked(people, server, endpoint, outside):
    path, body = ways(endpoint)[0]
    before = len(outside.told())
    try:
        for address in (server.address, "127.0.0.1"):
            outside.lead_to(address)
            answer = refused(people.reader.call("POST", path, body), 502)
            assert b"not a" in answer.body and b"public IP address" in answer.body
    finally:
        outside.lead_to(PUBLIC)
    holds(len(outside.told()) == before, "something private was asked")
    works(people.reader.call("POST", path, body))


@pytest.mark.parametrize("value", ["$MLFLOW_CRYPTO_KEK_PASSPHRASE", "/etc/mlflow/gateway-passphrase", "/etc/passwd"])
def test_a_key_is_what_was_entered_and_neither_a_file_nor_a_variable_of_the_service(people, outside, value):
    again = secrets.token_hex(4)
    secret = works(key_of(people.owner, f"key-{again}", value, auth_config={"api_base": f"{URL}/{again}"})).json["secret"]
    definition = people.owner.must("POST", f"{GATEWAY}/model-definitions/create", name=f"definition-{again}", provider="openai",
                                   secret_id=secret["secret_id"], model_name="mock")["model_definition"]  # fmt: skip
    endpoint_of(people.owner, f"e-{again}", definition)
    works(people.owner.call("POST", "/gateway/mlflow/v1/chat/completions", {"model": f"e-{again}", **ASKED}))
    told = outside.told(f"/{again}/chat/completions")
    holds([told["headers"]["authorization"] for told in told] == [f"Bearer {value}"])


@pytest.mark.parametrize("provider", ["bedrock", "ollama", "vertex_ai", "litellm", "databricks", "mlflow-model-serving"])
def test_a_provider_that_takes_the_hosts_own_rights_is_not_asked(people, endpoint, provider):
    again = secrets.token_hex(4)
    made = people.owner.call("POST", f"{GATEWAY}/model-definitions/create", {
        "name": f"definition-{again}", "secret_id": endpoint.secret, "provider": provider, "model_name": "x"})  # fmt: skip
    if made.status == 200:
        endpoint_of(people.owner, f"e-{again}", made.json["model_definition"])
        made = people.owner.call("POST", "/gateway/mlflow/v1/chat/completions", {"model": f"e-{again}", **ASKED})
    refused(made, 400, 404)
    assert b"is not allowed" in made.body, str(made)


def test_after_a_restart_the_keys_are_still_good(server, deployment, people, endpoint):
    server.run("systemctl restart mlflow")
    assert deployment.serves(server.host)
    path, body = ways(endpoint)[0]
    works(people.reader.call("POST", path, body))
