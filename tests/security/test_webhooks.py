# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Webhooks: an administrator has a public server told what happens, signed, after a restart as well; nothing private is reached.

The server that is told is that of outside.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time

import pytest
from attacks import holds, refused, works
from clients import API
from outside import NAME, PORT, PUBLIC, URL

EVENT = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]


@pytest.fixture
def hook(people):
    """Makes webhooks, and removes them."""
    made = []

    def make(path="", url=None, **more):
        url = url or f"{URL}/{path}"
        answer = works(people.admin.post(f"{API}/webhooks", name=f"hook-{secrets.token_hex(4)}", url=url, events=EVENT, **more))
        made.append(answer.json["webhook"]["webhook_id"])
        return made[-1]

    yield make
    for webhook in made:
        people.admin.delete(f"{API}/webhooks/{webhook}", webhook_id=webhook)


def tried(people, webhook):
    """What MLflow says of a delivery that it is asked to try."""
    return works(people.admin.post(f"{API}/webhooks/{webhook}/test", webhook_id=webhook)).json["result"]


def is_signed(told, secret):
    """As a receiver looks at it."""
    headers = told["headers"]
    content = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.{told['body']}"
    signature = base64.b64encode(hmac.new(secret.encode(), content.encode(), hashlib.sha256).digest()).decode()
    return headers["x-mlflow-signature"] == f"v1,{signature}"


@pytest.mark.slow
@pytest.mark.everyday
def test_what_happens_is_told_signed_and_after_a_restart_as_well(server, deployment, people, outside, hook):
    secret, path = f"only the receiver's {secrets.token_hex(8)}", secrets.token_hex(8)
    hook(path, secret=secret)

    def is_told_of_models():
        """A worker that has looked a moment ago hears of a new webhook within a minute."""
        names, deadline = set(), time.monotonic() + 100
        while time.monotonic() < deadline:
            name = f"told-{secrets.token_hex(4)}"
            names.add(name)
            people.editor.must("POST", f"{API}/registered-models/create", name=name)
            time.sleep(2)
            for told in outside.told(f"/{path}"):
                if (data := json.loads(told["body"])["data"])["name"] in names:
                    assert is_signed(told, secret) and data["name"].startswith("told-")
                    return True
        return False

    assert is_told_of_models()
    # Nobody else's process, no later one and no copy of the database gives the secret away or loses it.
    server.run("systemctl restart mlflow")
    assert deployment.serves(server.host)
    assert path in works(people.admin.get(f"{API}/webhooks")).body.decode()
    assert is_told_of_models()
    with deployment.connect("mlflow") as database:
        rows = database.execute("SELECT secret FROM webhooks WHERE secret IS NOT NULL AND deleted_timestamp IS NULL").fetchall()
    holds(rows and secret not in str(rows))
    for asked in (people.admin.get(f"{API}/webhooks"), people.admin.get("/ajax-api/2.0/mlflow/webhooks")):
        holds(secret.encode() not in works(asked).body)


def test_the_key_is_shown_to_nobody(server, deployment):
    key = deployment.content("mlflow/mlflow/webhook-key")["key"]
    assert server.run("cat /etc/mlflow/webhook-key") == key
    shown = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /etc/mlflow/mlflow.env; journalctl -o cat; systemctl show mlflow"
    count = server.run(f"({shown}) 2>/dev/null | grep --text --count --fixed-strings --file=/etc/mlflow/webhook-key || true")
    holds(count == "0", "the key is in a command line, an environment, the settings or the journal")


@pytest.mark.parametrize("who, status", [("stranger", 401), ("without_rights", 403), ("owner", 403)])
def test_webhooks_are_the_administrators(people, hook, outside, who, status):
    user, webhook = getattr(people, who), hook("private-matter")
    for api in (API, "/ajax-api/2.0/mlflow"):
        refused(user.get(f"{api}/webhooks"), status)
        refused(user.post(f"{api}/webhooks", name="stolen", url="https://example.com/", events=EVENT), status)
        refused(user.get(f"{api}/webhooks/{webhook}"), status)
        refused(user.patch(f"{api}/webhooks/{webhook}", webhook_id=webhook, url="https://example.com/"), status)
        refused(user.post(f"{api}/webhooks/{webhook}/test", webhook_id=webhook), status)
        refused(user.delete(f"{api}/webhooks/{webhook}", webhook_id=webhook), status)
    works(people.admin.get(f"{API}/webhooks/{webhook}"))


@pytest.mark.parametrize("url", [
    "https://127.0.0.1:8443/", "https://localhost/", "https://OWN:8443/", "https://169.254.169.254/latest/meta-data/", "https://[::1]/",
    "https://[fd00:ec2::254]/", "https://[::ffff:169.254.169.254]/", "https://[64:ff9b::a9fe:a9fe]/", "https://10.0.0.1/",
    "https://0/", "https://127.1/", "https://100.64.0.1/", "http://example.com/", "ftp://example.com/", f"http://{NAME}:{PORT}/", "file:///etc/passwd",
])  # fmt: skip
def test_a_webhook_names_a_public_server(people, server, outside, url):
    url = url.replace("OWN", server.address)
    refused(people.admin.post(f"{API}/webhooks", name="inwards", url=url, events=EVENT), 400)


def test_it_is_looked_at_again_when_it_is_delivered(people, server, outside, hook):
    """A name may lead elsewhere by then, and whoever is told may send it on."""
    path, away = secrets.token_hex(8), hook("away")
    webhook = hook(path)
    assert tried(people, webhook)["success"]
    assert [told["at"] for told in outside.told(f"/{path}")] == [PUBLIC]
    assert "SSRFProtectionError" in tried(people, away)["error_message"]
    try:
        for address in (server.address, "127.0.0.1", "169.254.169.254"):
            outside.lead_to(address)
            answer = tried(people, webhook)
            assert not answer.get("success") and "error_message" in answer
    finally:
        outside.lead_to(PUBLIC)
    assert tried(people, webhook)["success"]
    holds({told["at"] for told in outside.told()} == {PUBLIC}, "something private was reached")
