# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's schemas, its users and its administrator, for database/prepare.py and database/users.py."""

import tempfile
from pathlib import Path

from mlflow_service.compat.ground import NEEDED, Patch

PATCH = Patch(
    "schemas",
    "the database is migrated and the administrator is made",
    kind=NEEDED,
    uses=(
        "mlflow.store.db.utils:_get_alembic_config",
        "mlflow.server.auth.db.utils:_get_alembic_config",
        "mlflow.server.auth.db.utils:migrate",
        "mlflow.server.auth.db.utils:INITIAL_REVISION",
        "mlflow.db:upgrade.callback",
        "mlflow.server.auth:store.init_db",
        "mlflow.server.auth:create_admin_user",
    ),
)

# The migration that tells the grants for prompts from those for models, by tables of the runs. Where the users are in a database
# of their own it finds none of these.
PROMPTS = "f1a2b3c4d5e6"


def scripts():
    """Alembic's scripts of both schemas of the MLflow that is installed."""
    import mlflow.server.auth.db.utils as auth_db
    import mlflow.store.db.utils as tracking_db
    from alembic.script import ScriptDirectory

    modules = {"tracking": tracking_db, "auth": auth_db}
    return {kind: ScriptDirectory.from_config(module._get_alembic_config("")) for kind, module in modules.items()}


def first_of_users():
    """The revision of the first schema of the users, which was not noted."""
    import mlflow.server.auth.db.utils as auth_db

    return auth_db.INITIAL_REVISION


def users_of_today(revision, rows_of):
    """
    The users' tables of another database, brought to this MLflow's schema by its own migrations: of each its name, its columns
    and its rows, in an order in which each row comes after those that it refers to.

    :arg revision: The schema that they have there.
    :arg rows_of: Answers with the rows of a table there, by its name and the columns that are wanted.
    """
    import mlflow.server.auth.db.utils as auth_db
    from sqlalchemy import MetaData, create_engine, insert, select

    def tables(connection):
        found = MetaData()
        found.reflect(connection)
        return [table for table in found.sorted_tables if not table.name.startswith("alembic_version")]

    # For nobody but this user, and gone at the end.
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder, 'users.db')}", hide_parameters=True)
        try:
            auth_db.migrate(engine, revision)
            with engine.begin() as connection:
                for table in tables(connection):
                    columns = list(table.columns.keys())
                    rows = [dict(zip(columns, row, strict=True)) for row in rows_of(table.name, columns)]
                    if rows:
                        connection.execute(insert(table), rows)
            auth_db.migrate(engine, "head")
            with engine.connect() as connection:
                return [
                    (table.name, list(table.columns.keys()), [tuple(row) for row in connection.execute(select(table))])
                    for table in tables(connection)
                ]
        finally:
            engine.dispose()


def tell_prompts_apart(connection, known):
    """
    Do here what one of the migrations could not do for users that were apart from the runs.

    :arg known: The revisions of the users' schema that this MLflow knows.
    """
    if PROMPTS in known:
        connection.execute(
            "UPDATE role_permissions grants SET resource_type = 'prompt' FROM roles, registered_model_tags tags "
            "WHERE roles.id = grants.role_id AND tags.workspace = roles.workspace AND tags.name = grants.resource_pattern "
            "AND tags.key = 'mlflow.prompt.is_prompt' AND lower(tags.value) = 'true' "
            "AND grants.resource_type = 'registered_model' "
            "AND NOT EXISTS (SELECT 1 FROM role_permissions same WHERE same.role_id = grants.role_id "
            "AND same.resource_type = 'prompt' AND same.resource_pattern = grants.resource_pattern)"
        )


def migrate(uri, username, password, bring=None):
    """
    Migrate, and make the administrator where he is not there.

    :arg username: Nothing where nobody logs in.
    :arg bring: Called in between, when the users' tables are there and nobody is made.
    """
    import mlflow.db

    mlflow.db.upgrade.callback(uri)
    if username:
        from mlflow.server import auth

        auth.store.init_db(uri)
        if bring:
            bring()
        auth.create_admin_user(username, password)
