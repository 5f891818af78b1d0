# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""However the path of a route is spelled, whoever may not is answered with nobody's data, and nothing is done for him."""

from __future__ import annotations

import secrets
from urllib.parse import quote

import pytest
from attacks import holds, refused, works
from clients import API, API3, together


def every_letter(path):
    return "".join(letter if letter == "/" else f"%{ord(letter):02x}" for letter in path)


def last(path, put):
    """With something between the last part and the rest."""
    before, _, end = path.rpartition("/")
    return f"{before}{put}{end}"


# What becomes of /api/2.0/mlflow/experiments/get; the query stays behind it.
SPELLINGS = {
    "two slashes at the begin": lambda path: "/" + path,
    "three slashes": lambda path: "//" + path,
    "two slashes within": lambda path: last(path, "//"),
    "two slashes everywhere": lambda path: path.replace("/", "//"),
    "two slashes after the version": lambda path: path.replace("/mlflow/", "//mlflow/"),
    "a slash at the end": lambda path: path + "/",
    "two slashes at the end": lambda path: path + "//",
    "a coded slash at the end": lambda path: path + "%2f",
    "a semicolon at the end": lambda path: path + ";",
    "a parameter at the end": lambda path: path + ";x=1",
    "a parameter within": lambda path: last(path, ";x=1/"),
    "a parameter of the first part": lambda path: path.replace("/", "/;/", 1),
    "a parameter and dots": lambda path: "/health;/.." + path,
    "dots and a parameter": lambda path: last(path, "/x/..;/"),
    "a coded parameter": lambda path: path + "%3bx=1",
    "a coded slash": lambda path: last(path, "%2f"),
    "a coded slash in capitals": lambda path: last(path, "%2F"),
    "coded slashes everywhere": lambda path: "/" + path[1:].replace("/", "%2f"),
    "a slash coded twice": lambda path: last(path, "%252f"),
    "a backslash": lambda path: last(path, "\\"),
    "a coded backslash": lambda path: last(path, "%5c"),
    "one dot": lambda path: last(path, "/./"),
    "one coded dot": lambda path: last(path, "/%2e/"),
    "a dot at the begin": lambda path: "/." + path,
    "a dot at the end": lambda path: path + "/.",
    "a dot after it": lambda path: path + ".",
    "a coded dot after it": lambda path: path + "%2e",
    "an ending": lambda path: path + ".json",
    "two dots": lambda path: last(path, "/x/../"),
    "two coded dots": lambda path: last(path, "/x/%2e%2e/"),
    "two dots, a coded slash": lambda path: last(path, "/x/..%2f"),
    "two dots, coded twice": lambda path: last(path, "/x/%252e%252e/"),
    "two dots at the end": lambda path: path + "/x/..",
    "from what all may ask": lambda path: "/health/.." + path,
    "from what all may ask, coded": lambda path: "/health/%2e%2e" + path,
    "from what all may ask, coded slash": lambda path: "/health%2f.." + path,
    "from the page's files": lambda path: "/static-files/.." + path,
    "from the page's files, coded": lambda path: "/static-files/static/%2e%2e/%2e%2e" + path,
    "from the page's files, coded slash": lambda path: "/static-files/static/..%2f..%2f" + path[1:],
    "from /ready": lambda path: "/ready/.." + path,
    "from the other prefix": lambda path: "/ajax-api/.." + path,
    "a coded letter": lambda path: last(path, "/").replace("mlflow", "mlf%6cow"),
    "every letter coded": every_letter,
    "every letter coded twice": lambda path: every_letter(path).replace("%", "%25"),
    "a letter coded twice": lambda path: path.replace("mlflow", "mlf%256cow"),
    "a coded api": lambda path: path.replace("/api", "/%61pi"),
    "a wrong code": lambda path: path.replace("mlflow", "mlf%6low"),
    "overlong UTF-8": lambda path: last(path, "%c0%af"),
    "a wide letter": lambda path: path.replace("m", quote("ｍ"), 1),
    "capitals": lambda path: path.upper(),
    "one capital": lambda path: path.replace("mlflow", "Mlflow"),
    "a capital at the end": lambda path: path[:-1] + path[-1].upper(),
    "a coded space at the end": lambda path: path + "%20",
    "a coded tab at the end": lambda path: path + "%09",
    "a plus at the end": lambda path: path + "+",
    "NUL at the end": lambda path: path + "%00",
    "NUL and an ending": lambda path: path + "%00.html",
    "a coded line's end": lambda path: path + "%0d%0a",
    "a coded mark": lambda path: path + "%3f",
    "a coded hash": lambda path: path + "%23",
    "a hash": lambda path: "/health#/.." + path,
    "another version": lambda path: path.replace("2.0", "2.00"),
    "a star": lambda path: path + "*",
    "the whole address": lambda path: "https://127.0.0.1" + path,
    "the whole address of another": lambda path: "http://attacker.example.net" + path,
}


@pytest.fixture(scope="module")
def targets(people, world):
    """
    What one without rights may not: method, path, query and body, who may, and what nobody else is told.

    The names of users are told to every login; of that route it is the stranger who may not.
    """
    user, again = people.without_rights, secrets.token_hex(6)
    of_owner, of_experiment = f"username={people.owner.username}", f"experiment_id={world.experiment}"
    of_thing = f"resource_type=experiment&resource_id={world.experiment}"
    thing = {"resource_type": "experiment", "resource_id": world.experiment, "permission": "READ"}
    names = world.experiment_name.encode(), people.owner.username.encode()
    events = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    hook = {"name": f"hook-{again}", "url": f"https://example.com/{again}", "events": events}
    made = people.admin.post(f"{API}/webhooks", **hook)
    secret_hook = again.encode() if made.status == 200 else b"webhooks"
    found = [
        (user, "GET", f"{API}/experiments/get", of_experiment, None, people.reader, names),
        (user, "GET", f"{API}/experiments/get-by-name", f"experiment_name={world.experiment_name}", None, people.reader,
         (b"artifact_location",)),
        (user, "GET", f"{API}/runs/get", f"run_id={world.run}", None, people.reader, (world.run.encode(), b"artifact_uri")),
        (user, "GET", f"{API}/users/get", of_owner, None, people.owner, (b"is_admin",)),
        (user, "GET", f"{API3}/users/permissions/list", of_owner, None, people.owner, (b"permission\"", b"resource_pattern")),
        (user, "GET", f"{API3}/users/permissions/get", f"{of_owner}&{of_thing}", None, people.owner, (b"MANAGE", b"resource_id")),
        (user, "GET", f"{API}/webhooks", "", None, people.admin, (secret_hook, b"webhooks\"")),
        (user, "GET", f"{API3}/roles/users/list", "role_id=1", None, people.admin, (b"username",)),
        (people.stranger, "GET", f"{API}/users/list", "", None, user, (people.owner.username.encode(), b"is_admin")),
        (people.stranger, "GET", f"{API}/experiments/search", "max_results=1000", None, user, names),
        (user, "POST", f"{API}/users/create", "", {"username": f"stolen-{again}", "password": f"stolen-{again}"}, None, ()),
        (user, "PATCH", f"{API}/users/update-admin", "", {"username": user.username, "is_admin": True}, None, ()),
        (user, "POST", f"{API}/webhooks", "", {**hook, "name": f"stolen-{again}"}, None, ()),
        (user, "POST", f"{API}/experiments/set-experiment-tag", "",
         {"experiment_id": world.experiment, "key": f"stolen-{again}", "value": "x"}, None, ()),
        (user, "POST", f"{API3}/users/permissions/grant", "", {"username": user.username, **thing}, None, ()),
        (user, "POST", f"{API}/experiments/delete", "", {"experiment_id": world.experiment}, None, ()),
    ]  # fmt: skip
    yield found
    if made.status == 200:
        people.admin.delete(f"{API}/webhooks/{made.json['webhook']['webhook_id']}")


def asked(client, method, path, query, body, headers=None):
    if method == "GET":
        return client.send(method, f"{path}?{query}" if query else path, headers)
    return client.call(method, path, body, headers)


@pytest.fixture(scope="module")
def page(people):
    """What the server answers where somebody only asks for the page."""
    return {people.without_rights.get("/").body, people.stranger.get("/health").body, people.stranger.get("/ready").body}


@pytest.fixture(scope="module")
def no_traceback(server):
    """Of all of them together: looking each time takes longer than asking."""
    with server.no_traceback():
        yield


@pytest.mark.slow
@pytest.mark.everyday
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_path_is_not_another_one_by_its_spelling(people, targets, page, no_traceback, spelling):
    """Each target, by /api or /ajax-api in turn; the honest calls are some of the same paths, written as they are."""
    spell = SPELLINGS[spelling]

    def attack(client, method, path, query, body, secrets_of_others):
        answer = asked(client, method, spell(path), query, body)
        told = [word for word in secrets_of_others if word in answer.body]
        holds(not told, f"{answer}: {told}")
        if answer.status == 200 and (answer.body in page or (method == "GET" and path.endswith("/health"))):
            return
        # 301 and 308 send him to the plain path, where he is refused like anybody.
        refused(answer, 301, 307, 308, 400, 401, 403, 404, 405, 421)

    calls, turn = [], list(SPELLINGS).index(spelling)
    for number, (client, method, path, query, body, who, hidden) in enumerate(targets):
        there = path.replace("/api", ("/api", "/ajax-api")[(number + turn) % 2], 1)
        calls.append(lambda it=(client, method, there, query, body, hidden): attack(*it))
        if who and (number + turn) % 4 == 0:
            works(asked(who, method, there, query, body))
    wrong = [str(found) for found in together(calls, threads=4) if found is not None]
    assert wrong == [], "\n".join(wrong)


def test_nothing_was_done_by_any_spelling(people, world, targets):
    """What the calls above would have left behind; it is the last test here for that."""
    user = people.without_rights
    users = {one["username"]: one["is_admin"] for one in works(people.admin.get(f"{API}/users/list")).json["users"]}
    holds(not [name for name in users if name.startswith("stolen-")], users)
    holds(users[user.username] is False, "an administrator was made")
    hooks = works(people.admin.get(f"{API}/webhooks")).body
    holds(b"stolen-" not in hooks, hooks)
    experiment = works(people.owner.get(f"{API}/experiments/get", experiment_id=world.experiment)).json["experiment"]
    holds(experiment["lifecycle_stage"] == "active" and "stolen-" not in str(experiment.get("tags")), experiment)
    refused(user.get(f"{API}/experiments/get", experiment_id=world.experiment), 403)
    # The same calls by whoever may, in their plain spelling, do what they say.
    again = secrets.token_hex(6)
    works(people.admin.post(f"{API}/users/create", username=f"honest-{again}", password=f"honest-{again}"))
    works(people.owner.post(f"{API}/experiments/set-experiment-tag", experiment_id=world.experiment, key="honest", value="x"))
