#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_database
short_description: Make the PostgreSQL roles and the database that MLflow uses
version_added: "0.1.0"
description:
  - Makes an owner role that can't log in, login roles that act as the owner, and a database that belongs to the owner.
  - One login role is active and has the given password. The others are for the next rotation of that password and can't
    log in.
  - Works with an administrator that is no superuser, as the master user of Amazon RDS.
  - A table that has rows and no planner statistics, as all have after an upgrade to another major version of PostgreSQL, is
    analyzed. What autovacuum is about to analyze by itself is left to it.
  - A password is proven by a login and set only if the login is refused for its password. It is hashed before it is sent,
    so the server's log never holds it.
author:
  - the mlops.mlflow_aws contributors
extends_documentation_fragment:
  - mlops.mlflow_aws.postgresql
options:
  admin_user:
    description: The administrator, who needs C(CREATEROLE) and C(CREATEDB).
    type: str
    required: true
  database:
    description: The database.
    type: str
    required: true
  owner:
    description: The role that owns the database and can't log in.
    type: str
    required: true
  logins:
    description: The login roles.
    type: list
    elements: str
    required: true
  active:
    description: The one of O(logins) that may log in.
    type: str
    required: true
  active_password:
    description: The password of O(active).
    type: str
    required: true
  active_created:
    description:
      - When the version of the secret that O(active_password) was read from was made, as seconds of the epoch. What a later
        rotation has done is not undone.
      - With 0 that is not known, and what is noted of the roles is compared with each other.
    type: float
    default: 0
  lock_idle:
    description:
      - Whether a role of O(logins) other than O(active) is locked where nobody uses it. Say V(false) while a rotation is under
        way, since a machine that is off has no session, and may have no other login yet.
    type: bool
    default: true
    version_added: "0.3.0"
attributes:
  check_mode:
    description: Says what would be done and changes nothing.
    support: full
  diff_mode:
    description: Not given; the list of actions says it all.
    support: none
notes:
  - A role of O(logins) other than O(active) that can log in and has a session open, or the password of a later
    rotation, is left as it is, since a rotation is under way; it is locked when that is finished.
  - An O(active) that can't log in while another one of O(logins) has the password of a later rotation was active once. It is
    not unlocked and gets no password; the module fails and says which roles and rotations that are. The same goes for one
    that refuses O(active_password) and has the password of a later rotation than O(active_created).
"""

EXAMPLES = r"""
- name: Make MLflow's database
  mlops.mlflow_aws.mlflow_database:
    host: db.example.com
    ca_certificate: "{{ lookup('ansible.builtin.file', 'database-ca.pem') }}"
    admin_user: postgres
    admin_password: "{{ admin_password }}"
    database: mlflow
    owner: mlflow_owner
    logins: [mlflow_a, mlflow_b]
    active: mlflow_a
    active_password: "{{ password }}"
    active_created: "{{ created }}"
  no_log: true
"""

RETURN = r"""
missing:
  description: The Python package that the module lacks.
  returned: when it lacks one
  type: str
  sample: psycopg2
actions:
  description: What was done, or in check mode would be done, in order.
  returned: always
  type: list
  elements: str
  sample: ["create role mlflow_owner"]
server_version:
  description: The server's version as PostgreSQL counts it.
  returned: when the server was reached
  type: int
  sample: 170004
max_connections:
  description: How many connections the server takes.
  returned: when the server was reached
  type: int
  sample: 112
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.mlflow_aws.plugins.module_utils import _postgresql as pg

# Tables of this role's that are searched without statistics, and that autovacuum is not about to analyze: it waits for changes,
# which it no longer counts from the beginning where the statistics were lost. One that is a page long wants none.
WITHOUT_STATISTICS = """
SELECT s.schemaname, s.relname FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.last_analyze IS NULL AND s.last_autoanalyze IS NULL
  AND pg_relation_size(s.relid) > current_setting('block_size')::bigint
  AND s.n_mod_since_analyze <= current_setting('autovacuum_analyze_threshold')::bigint
      + current_setting('autovacuum_analyze_scale_factor')::float * greatest(c.reltuples, 0)
  AND NOT EXISTS (SELECT FROM pg_stats p WHERE p.schemaname = s.schemaname AND p.tablename = s.relname)
  AND pg_has_role(c.relowner, 'USAGE')
ORDER BY 1, 2
"""


class Database:
    """Looks at one thing after the other and puts it right; every step stands alone."""

    def __init__(self, params, session, check_mode=False, connect=pg.connect):
        self.params = params
        self.session = session
        self.check_mode = check_mode
        self.connect = connect
        self.actions = []
        self.kept = []
        self.not_analyzed = []

    def act(self, action, statement, names, parameters=None, session=None):
        self.actions.append(action)
        if self.check_mode:
            return
        try:
            (session or self.session).do(statement, names, parameters)
        except pg.PostgresqlError as error:
            raise pg.PostgresqlError(f"Could not {action}: {error}") from error

    def ensure(self):
        roles = self._roles()
        self._check_admin(roles)
        self._refuse_retired(roles)
        self._ensure_owner(roles)
        created = self._ensure_logins(roles)
        database_exists = self._ensure_database()
        if self.params["active"] not in created:
            self._ensure_active(roles, database_exists)
        if database_exists or not self.check_mode:
            self._prove(created)
        if self.params["lock_idle"]:
            self._lock_idle(roles, created)

    def _roles(self):
        names = [self.params["owner"], *self.params["logins"]]
        rows = self.session.rows(
            "SELECT rolname, rolcanlogin, rolsuper, coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = ANY (%s)",
            (names,),
        )
        return {name: {"login": login, "super": su, "config": config} for name, login, su, config in rows}

    def _check_admin(self, roles):
        rights = self.session.rows(
            "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )[0]
        if not rights[0] and not (rights[1] and rights[2]):
            raise pg.PostgresqlError(
                f"{self.params['admin_user']} may not do this: it needs CREATEROLE and CREATEDB, "
                f"and has {'CREATEROLE' if rights[1] else 'no CREATEROLE'}, {'CREATEDB' if rights[2] else 'no CREATEDB'}."
            )
        for name, role in roles.items():
            if role["super"]:
                raise pg.PostgresqlError(f"The role {name} is a superuser; MLflow must not be one. Choose another name.")

    def _refuse_retired(self, roles):
        """
        A login that a rotation has locked stays locked: whoever wants it unlocked has read the secret before that rotation.

        A database that was restored to a time before the last rotation looks alike, but for the time of the secret.
        """
        active = self.params["active"]
        if active not in roles or roles[active]["login"]:
            return
        mine = self.session.note_of(active)
        known = self.params["active_created"] or mine.get("created", 0)
        for name in self.params["logins"]:
            note = self.session.note_of(name) if name in roles and name != active else {}
            if note.get("created", 0) > known:
                raise pg.PostgresqlError(
                    f"{active} can't log in, and {name} has the password of a later rotation: {pg.told(note)}; that of {active} "
                    f"is from {pg.told(mine)}. The secret was read before a rotation that has ended since. Nothing was changed: "
                    f"{active} stays locked. Run site.yml again, which reads the secret anew."
                )

    def _refuse_older(self):
        """The password that was given is not the login's: is it one of before?"""
        active, known = self.params["active"], self.params["active_created"]
        note = self.session.note_of(active)
        if known and note.get("created", 0) > known:
            raise pg.PostgresqlError(
                f"{active} refuses the password that was given, and has that of a later rotation: {pg.told(note)}. The secret "
                f"was read before a rotation that has ended since. The password of {active} was not changed. Run site.yml again, "
                "which reads the secret anew."
            )

    def _ensure_owner(self, roles):
        owner = self.params["owner"]
        if owner not in roles:
            self.act(f"create role {owner}", "CREATE ROLE {} NOLOGIN", [owner])
        elif roles[owner]["login"]:
            self.act(f"lock role {owner}", "ALTER ROLE {} NOLOGIN", [owner])

        # To make a database for the owner one must be able to become it. From PostgreSQL 16 on who
        # makes a role administers it, but is no member that may become it or has its rights.
        wanted = ["SET", "USAGE"] if self.session.version >= 160000 else ["MEMBER", "USAGE"]
        member = owner in roles and all(
            self.session.value("SELECT pg_has_role(current_user, %s, %s)", (owner, right)) for right in wanted
        )
        if not member:
            options = " WITH INHERIT TRUE, SET TRUE" if self.session.version >= 160000 else ""
            self.act(
                f"let {self.params['admin_user']} act as {owner}",
                "GRANT {} TO CURRENT_USER" + options,
                [owner],
            )

    def _ensure_logins(self, roles):
        owner = self.params["owner"]
        created = []
        for name in self.params["logins"]:
            if name not in roles:
                created.append(name)
                if name == self.params["active"]:
                    verifier = None
                    if not self.check_mode:
                        verifier = self.session.verifier(name, self.params["active_password"])
                    self.act(f"create login {name}", "CREATE ROLE {} LOGIN PASSWORD %s", [name], (verifier,))
                else:
                    self.act(f"create locked login {name}", "CREATE ROLE {} NOLOGIN", [name])
            both_there = owner in roles and name in roles
            if not (both_there and self.session.value("SELECT pg_has_role(%s, %s, 'MEMBER')", (name, owner))):
                self.act(f"make {name} a member of {owner}", "GRANT {} TO {}", [owner, name])
            if f"role={owner}" not in roles.get(name, {}).get("config", []):
                self.act(f"let {name} act as {owner}", "ALTER ROLE {} SET role = %s", [name], (owner,))
        return created

    def _ensure_database(self):
        """Return whether it was there."""
        database, owner = self.params["database"], self.params["owner"]
        current = self.session.value(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (database,)
        )
        if current is None:
            self.act(
                f"create database {database}",
                "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0",
                [database, owner],
            )
            open_to_all = True
        elif current != owner:
            raise pg.PostgresqlError(
                f"The database {database} belongs to {current}, not to {owner}. Give it to {owner} "
                f"(ALTER DATABASE, REASSIGN OWNED) or choose another name."
            )
        else:
            open_to_all = self.session.value("SELECT has_database_privilege('public', %s, 'CONNECT')", (database,))
        if open_to_all:
            self.act(
                f"close database {database} to other roles",
                "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC",
                [database],
            )
        return current is not None

    def _ensure_active(self, roles, database_exists):
        """Set the password where a login shows that it is another one."""
        active = self.params["active"]
        unlocked = roles[active]["login"]
        if not unlocked:
            self.act(f"unlock login {active}", "ALTER ROLE {} LOGIN", [active])
            if self.check_mode:
                return
        if not database_exists and self.check_mode:
            return
        try:
            self._login().close()
        except pg.WrongPassword:
            self._refuse_older()
            verifier = None if self.check_mode else self.session.verifier(active, self.params["active_password"])
            self.act(f"set the password of {active}", "ALTER ROLE {} PASSWORD %s", [active], (verifier,))
        else:
            if unlocked:
                return
        known = self.params["active_created"]
        if known > self.session.note_of(active).get("created", 0) and not self.check_mode:
            # From here on this is the latest, whatever is noted of the other one.
            self.session.write_note(active, {"version": "", "created": known})

    def _login(self):
        return self.connect(
            self.params, self.params["active"], self.params["active_password"], self.params["database"]
        )

    def _prove(self, created):
        """Log in as MLflow will and look whether it would own what it makes."""
        if self.check_mode and self.actions:
            return
        active, owner = self.params["active"], self.params["owner"]
        try:
            session = self._login()
        except pg.PostgresqlError as error:
            raise pg.PostgresqlError(f"{active} can't log in to {self.params['database']}: {error}") from error
        try:
            acts_as = session.value("SELECT current_user")
            if acts_as != owner:
                raise pg.PostgresqlError(f"{active} acts as {acts_as} and not as {owner}; its tables would be lost to others.")
            self._analyze(session)
        finally:
            session.close()

    def _analyze(self, session):
        """Give tables statistics that have lost theirs. Nothing depends on it, so what can't be analyzed is told and left."""
        for schema, table in session.rows(WITHOUT_STATISTICS):
            try:
                # A sample of a large table, whose disk was restored and is still being fetched, takes minutes.
                session.do("SET statement_timeout = '10min'")
                self.act(f"analyze {schema}.{table}", "ANALYZE {}.{}", [schema, table], session=session)
            except pg.PostgresqlError as error:
                self.actions.pop()
                self.not_analyzed.append(str(error))
                return

    def _lock_idle(self, roles, created):
        for name in self.params["logins"]:
            if name == self.params["active"] or name in created or not roles[name]["login"]:
                continue
            # A login with a later password than the active one is about to take over.
            if self._rotation(name) > self._rotation(self.params["active"]) or self.session.value(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (name,)
            ):
                self.kept.append(name)
            else:
                self.act(f"lock login {name} and forget its password", "ALTER ROLE {} NOLOGIN PASSWORD NULL", [name])

    def _rotation(self, name):
        """Which rotation a login's password belongs to; later ones compare as greater."""
        note = self.session.note_of(name)
        return note.get("created", 0), note.get("version", "")


def check_names(module):
    for option in ("database", "owner", "active"):
        if not pg.NAME.match(module.params[option]):
            module.fail_json(
                msg=f"{option} is '{module.params[option]}'; it must be a name of lower-case letters, digits and "
                "underscores that begins with a letter."
            )
    for name in module.params["logins"]:
        if not pg.NAME.match(name) or name == module.params["owner"]:
            module.fail_json(
                msg=f"logins holds '{name}'; each must be a name of lower-case letters, digits and underscores, and "
                "another one than owner."
            )
    if module.params["active"] not in module.params["logins"]:
        module.fail_json(msg=f"active is '{module.params['active']}'; it must be one of {module.params['logins']}.")
    if not module.params["active_password"]:
        module.fail_json(msg="active_password is empty; it must be the password of active.")


def main():
    module = AnsibleModule(
        argument_spec={
            **pg.CONNECTION_SPEC,
            "database": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "logins": {"type": "list", "elements": "str", "required": True},
            "active": {"type": "str", "required": True},
            "active_password": {"type": "str", "required": True, "no_log": True},
            "active_created": {"type": "float", "default": 0},
            "lock_idle": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    check_names(module)

    if pg.psycopg2 is None:
        if module.check_mode:
            # The role installs it in the task before; here nothing may be installed, so nothing can be seen.
            module.exit_json(
                changed=True, missing="psycopg2", actions=["look at the database, once psycopg2 is installed"]
            )
        module.fail_json(
            msg=missing_required_lib("psycopg2"), exception=str(pg.PSYCOPG2_IMPORT_ERROR), missing="psycopg2"
        )

    params = module.params
    try:
        session = pg.connect(params, params["admin_user"], params["admin_password"], params["admin_database"])
    except pg.PostgresqlError as error:
        module.fail_json(msg=f"{params['admin_user']} can't log in to {params['host']}:{params['port']}: {error}")

    database = Database(params, session, module.check_mode)
    try:
        database.ensure()
        maximum = int(session.value("SHOW max_connections"))
    except pg.PostgresqlError as error:
        module.fail_json(msg=str(error), actions=database.actions)
    finally:
        session.close()

    for name in database.kept:
        module.warn(
            f"{name} is not the active login, but has sessions open, or a rotation is to make it active; it stays unlocked."
        )
    for why in database.not_analyzed:
        module.warn(f"{why}. Searches may be slow until it is analyzed, which the next run tries again.")
    module.exit_json(
        changed=bool(database.actions),
        actions=database.actions,
        server_version=session.version,
        max_connections=maximum,
    )


if __name__ == "__main__":
    main()
