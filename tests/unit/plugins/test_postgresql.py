# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How modules reach PostgreSQL: by TLS with the server's name, unless somebody says otherwise; and what a refusal means."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from plugin_support import plugin

GIVEN = {"host": "db.example.com", "admin_user": "dba", "admin_password": "secret"}


@pytest.fixture
def pg(monkeypatch):
    """The module with a psycopg2 that notes how it is asked, and refuses in the words that it is given."""
    module = plugin("module_utils", "_postgresql")

    class OperationalError(Exception):
        pass

    asked = {}

    def connect(**options):
        asked.update(options)
        if "sslrootcert" in options:
            asked["ca"] = Path(options["sslrootcert"]).read_text()
        if words:
            raise OperationalError(words[0])
        return types.SimpleNamespace()

    words = []
    fake = types.SimpleNamespace(connect=connect, OperationalError=OperationalError)
    monkeypatch.setattr(module, "psycopg2", fake)
    module_and_more = types.SimpleNamespace(pg=module, asked=asked, refuse=words.append)
    return module_and_more


def params(pg, **more):
    validated = ArgumentSpecValidator(pg.pg.CONNECTION_SPEC).validate({**GIVEN, **more})
    assert not validated.error_messages
    return validated.validated_parameters


def test_who_says_nothing_gets_a_connection_whose_server_is_proved(pg):
    pg.pg.connect(params(pg, ca_certificate="the CA"), "mlflow", "secret", "mlflow")
    assert pg.asked["sslmode"] == "verify-full" and pg.asked["ca"] == "the CA"
    # It was for this connection.
    assert not Path(pg.asked["sslrootcert"]).exists()


def test_no_session_waits_or_keeps_others_waiting_for_ever(pg):
    pg.pg.connect(params(pg), "mlflow", "secret", "mlflow")
    assert pg.asked["connect_timeout"] == 10
    for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        assert f"-c {limit}=" in pg.asked["options"]


@pytest.mark.parametrize(
    "said, kind",
    [
        ('FATAL:  password authentication failed for user "mlflow"', "WrongPassword"),
        # None of these says that the password is wrong: it must not be set anew, and the server may come back.
        ('FATAL:  no password supplied for user "mlflow"', "ConnectionLost"),
        ("fe_sendauth: no password supplied", "ConnectionLost"),
        ('FATAL:  role "password" is not permitted to log in', "ConnectionLost"),
        ("could not translate host name password.example.com", "ConnectionLost"),
        ("connection refused", "ConnectionLost"),
    ],
)
def test_only_the_servers_refusal_of_the_password_means_that_it_is_wrong(pg, said, kind):
    pg.refuse(f"{said}\nLINE 1: x\n")
    with pytest.raises(pg.pg.PostgresqlError) as error:
        pg.pg.connect(params(pg), "mlflow", "secret", "mlflow")
    assert type(error.value).__name__ == kind
