# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's schemas and its administrator, for database/prepare.py."""

from mlflow_service.compat.ground import NEEDED, Patch

PATCH = Patch(
    "schemas",
    "the database is migrated and the administrator is made",
    kind=NEEDED,
    uses=(
        "mlflow.store.db.utils:_get_alembic_config",
        "mlflow.server.auth.db.utils:_get_alembic_config",
        "mlflow.db:upgrade.callback",
        "mlflow.server.auth:store.init_db",
        "mlflow.server.auth:create_admin_user",
    ),
)


def scripts():
    """Alembic's scripts of both schemas of the MLflow that is installed."""
    import mlflow.server.auth.db.utils as auth_db
    import mlflow.store.db.utils as tracking_db
    from alembic.script import ScriptDirectory

    modules = {"tracking": tracking_db, "auth": auth_db}
    return {kind: ScriptDirectory.from_config(module._get_alembic_config("")) for kind, module in modules.items()}


def migrate(uri, username, password):
    """
    Migrate, and make the administrator where he is not there.

    :arg username: Nothing where nobody logs in.
    """
    import mlflow.db

    mlflow.db.upgrade.callback(uri)
    if username:
        from mlflow.server import auth

        auth.store.init_db(uri)
        auth.create_admin_user(username, password)
