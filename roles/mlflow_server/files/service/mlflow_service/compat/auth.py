# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The logins of http/logins.py, put into MLflow's basic authentication."""

import os
import secrets

from mlflow_service.compat.ground import Patch
from mlflow_service.database import client
from mlflow_service.http.logins import Checks, Rows, Users, caller, shown

AUTH = "mlflow.server.auth"
PATCH = Patch(
    "logins",
    "who is calling is asked once, before all else",
    auth=True,
    # Who is calling is a matter of security and nothing to look for a fault without.
    optional=False,
    without="wrong passwords are not limited, and each request takes as long as checking a password does",
    uses=tuple(f"{AUTH}:{name}" for name in ("User", "auth_config", "is_unprotected_route", "_USER_AUTH_CACHE")),
    replaces=tuple(
        f"{AUTH}:{name}"
        for name in (
            "_authenticate_cached",
            "sender_is_admin",
            "_is_disabled_legacy_admin_login",
            "authenticate_request_basic_auth",
            "_authenticate_fastapi_request",
        )
    ),
)


def remember_nobody():
    """
    Where logins are MLflow's own. Its memory of them is each process's, so that whoever was removed is let in by the others,
    and it fails on what is no name and password. Without it MLflow asks its database each time.
    """
    from mlflow.server import auth

    if hasattr(auth, "_USER_AUTH_CACHE"):
        auth._USER_AUTH_CACHE = None


def take_over():
    """
    Put them into mlflow.server.auth, and return what Logins wants: Checks, the test of public paths, and the error that means
    that the database is not there.
    """
    import psycopg2
    from mlflow.server import auth
    from werkzeug.security import check_password_hash, generate_password_hash

    nobody = generate_password_hash(secrets.token_urlsafe(16))
    recycle = float(os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE"])

    read = Users(client.connect, (psycopg2.OperationalError, psycopg2.InterfaceError), auth.User, recycle)

    def matches(row, password):
        # An unknown name takes as long as a wrong password, so that the time tells nobody which names there are.
        right = check_password_hash(row.password_hash if row else nobody, password)
        return right and row is not None and not auth._is_disabled_legacy_admin_login(row.username, password, row)

    def _authenticate_cached(username, password):
        # A way in that does not come through Logins is none.
        return caller() if shown() == (username, password) else None

    def sender_is_admin():
        user = caller()
        return user is not None and user.is_admin

    auth._authenticate_cached = _authenticate_cached
    auth.sender_is_admin = sender_is_admin
    # MLflow's own cache stays empty; were it none, MLflow would hash the password itself.
    ttl = auth.auth_config.auth_cache_ttl_seconds
    auth._USER_AUTH_CACHE = {}
    limits = os.environ.get("MLFLOW_SERVER_ADDRESSES") == "true"
    return Checks(Rows(read), matches, ttl, limits), auth.is_unprotected_route, psycopg2.Error
