# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever was demoted, removed or shut out has lost it in every worker of every host, before that was answered."""

from __future__ import annotations

import secrets

import pytest
from attacks import holds, refused, works
from clients import API, API3, Client, together


class Loser:
    """A user who has something, the calls that need it, and how it is taken away."""

    def __init__(self, people, world, new_user, grant, kind):
        self.user = new_user(kind.split()[0])
        self.statuses, admin = (403,), people.admin
        self.calls = [("GET", f"{API}/experiments/search", {"max_results": 1}), ("GET", f"{API3}/mcp-servers", {})]
        if kind == "an administrator who is demoted":
            admin.must("PATCH", f"{API}/users/update-admin", username=self.user.username, is_admin=True)
            self.calls = [("GET", f"{API}/webhooks", {}), ("GET", f"{API3}/roles/list", {})]
            self.take = lambda: admin.patch(f"{API}/users/update-admin", username=self.user.username, is_admin=False)
        elif kind == "an administrator who is removed":
            admin.must("PATCH", f"{API}/users/update-admin", username=self.user.username, is_admin=True)
            self.calls = [("GET", f"{API}/webhooks", {}), ("GET", f"{API3}/roles/list", {})]
            self.statuses = (401,)
            self.take = lambda: admin.delete(f"{API}/users/delete", username=self.user.username)
        elif kind == "somebody who is removed":
            self.statuses = (401,)
            self.take = lambda: admin.delete(f"{API}/users/delete", username=self.user.username)
        elif kind == "somebody whose password is another one":
            self.statuses, self.new = (401,), f"password-{secrets.token_hex(8)}"
            self.take = lambda: admin.patch(f"{API}/users/update-password", username=self.user.username, password=self.new)
        elif kind == "an administrator who changes his own password":
            admin.must("PATCH", f"{API}/users/update-admin", username=self.user.username, is_admin=True)
            self.statuses, self.new = (401,), f"password-{secrets.token_hex(8)}"
            self.take = lambda: self.user.patch(
                f"{API}/users/update-password", username=self.user.username, password=self.new,
                current_password=self.user.password,
            )  # fmt: skip
        else:
            grant(self.user, "EDIT", "experiment", world.experiment)
            tag = {"key": "color", "value": "blue"}
            self.calls = [
                ("POST", f"{API}/experiments/set-experiment-tag", {"experiment_id": world.experiment, **tag}),
                ("POST", f"{API}/runs/set-tag", {"run_id": world.run, **tag}),
                ("PUT", f"{world.folder}/{self.user.username}", {}),
            ]
            self.take = lambda: people.owner.post(
                f"{API3}/users/permissions/revoke", username=self.user.username, resource_type="experiment",
                resource_id=world.experiment,
            )  # fmt: skip

    def ask(self, server):
        """All of his calls, on connections of their own."""
        return [Client(server.address, self.user.username, self.user.password).call(*call) for call in self.calls]


KINDS = ["an administrator who is demoted", "an administrator who is removed", "somebody who is removed",
         "somebody whose password is another one", "an administrator who changes his own password",
         "somebody who may no more"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_taken_is_gone_everywhere(people, world, new_user, grant, servers, kind):
    loser = Loser(people, world, new_user, grant, kind)
    for server in servers:
        for worker in server.workers():
            with server.only(worker):
                for answer in loser.ask(server):
                    works(answer)
    works(loser.take())
    at_once = [server for server in servers for _ in range(16)]
    for answers in together([lambda server=server: loser.ask(server) for server in at_once], threads=8):
        for answer in answers:
            refused(answer, *loser.statuses)
    for server in servers:
        for worker in server.workers():
            with server.only(worker):
                for answer in loser.ask(server):
                    refused(answer, *loser.statuses)
    if hasattr(loser, "new"):
        works(loser.user.known_as(loser.new).get(f"{API}/users/current"))


@pytest.mark.parametrize("kind", ["demoted", "removed"])
def test_a_former_administrator_makes_no_other_one(people, new_user, servers, kind):
    """With every worker warm, the calls that would make it last: a user, that user an administrator, another's password."""
    chief, friend = new_user("chief"), new_user("friend")
    people.admin.must("PATCH", f"{API}/users/update-admin", username=chief.username, is_admin=True)
    for server in servers:
        for worker in server.workers():
            with server.only(worker):
                works(chief.at(server.address).get(f"{API}/webhooks"))
    if kind == "demoted":
        status, taken = 403, people.admin.patch(f"{API}/users/update-admin", username=chief.username, is_admin=False)
    else:
        status, taken = 401, people.admin.delete(f"{API}/users/delete", username=chief.username)
    works(taken)
    made = []
    for server in servers:
        for worker in server.workers():
            with server.only(worker):
                at = chief.at(server.address)
                made.append(f"new-{secrets.token_hex(4)}")
                refused(at.patch(f"{API}/users/update-admin", username=friend.username, is_admin=True), status)
                refused(at.post(f"{API}/users/create", username=made[-1], password="password-password"), status)
                refused(at.patch(f"{API}/users/update-password", username=friend.username, password="password-stolen"), status)
                refused(at.delete(f"{API}/users/delete", username=friend.username), status)
    about = {user["username"]: user["is_admin"] for user in people.admin.get(f"{API}/users/list").json["users"]}
    holds(about[friend.username] is False and not about.get(chief.username) and not set(made) & set(about), about)
    works(friend.get(f"{API}/users/current"))


def test_the_name_of_a_removed_administrator_is_no_administrators(people, new_user, servers):
    """Somebody is given the name again: he is no administrator, and the former password is none, on each worker."""
    chief = new_user("chief")
    people.admin.must("PATCH", f"{API}/users/update-admin", username=chief.username, is_admin=True)
    for server in servers:
        for worker in server.workers():
            with server.only(worker):
                works(chief.at(server.address).get(f"{API}/webhooks"))
    works(people.admin.delete(f"{API}/users/delete", username=chief.username))
    heir = chief.known_as(f"password-{secrets.token_hex(8)}")
    works(people.admin.post(f"{API}/users/create", username=heir.username, password=heir.password))
    for server in servers:
        for worker in server.workers():
            with server.only(worker):
                refused(chief.at(server.address).get(f"{API}/webhooks"), 401)
                refused(heir.at(server.address).get(f"{API}/webhooks"), 403)
                works(heir.at(server.address).get(f"{API}/users/current"))
