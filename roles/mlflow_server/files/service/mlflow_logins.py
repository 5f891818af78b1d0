# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who a request is from, found out before anything else is done for it.

MLflow checks a password wherever a route asks who is calling: several times for a request, on the event loop for its
native routes, and each check of a password that it does not remember takes a tenth of a second and 32 MiB. Here it is
done once, first of all and beside the loop:

- The user's row is read from the database for every request, so who was removed or demoted, or whose password is another
  one, is so on every worker of every host at once. Requests that come together are one question to the database.
- A password that was right stays right for as long as the row has the same hash, and one that was wrong stays wrong;
  mlflow_server_auth_cache_ttl says for how long that is remembered.
- Passwords are hashed one at a time. Whoever sends many wrong ones is told to wait (429), before anything is hashed: per
  name and address, and per address, as nginx names it.

What MLflow checks with a login, it still checks: this only hands it the user (a ContextVar, so that nothing that a client
sends can name one), in the place of _authenticate_cached and sender_is_admin. docs/security.md has the whole.
"""

import asyncio
import base64
import binascii
import contextlib
import contextvars
import hmac
import logging
import os
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from mlflow_bodies import turn_away, without_body

# So many wrong passwords at once, and one more each so many seconds. Of one name from one address:
OF_NAME = (5, 5.0)
# Of all names from one address, behind which there may be a whole company:
OF_ADDRESS = (60, 0.5)
# Those of whom something is remembered, at most: logins, names, addresses.
REMEMBERED = 10_000
# Whoever waits for a password to be hashed, at most; each takes a tenth of a second.
WAITING = 50
LONGEST = 1024

_logger = logging.getLogger("uvicorn.error")
_caller = contextvars.ContextVar("mlflow_caller", default=None)

NOT_LOGGED_IN = (
    b"You are not authenticated. Please see https://www.mlflow.org/docs/latest/auth/index.html#authenticating-to-mlflow "
    b"on how to authenticate."
)
CHALLENGE = [(b"www-authenticate", b'Basic realm="mlflow"'), (b"content-type", b"text/html; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]
NO_DATABASE = b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "The database does not answer."}'
TOO_MANY = b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Too many wrong passwords; try again later."}'


def credentials(headers):
    """The name and the password of a request's only Authorization header, or nothing."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or len(given[0]) > LONGEST:
        return None
    scheme, _, rest = given[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if not name or not colon or not password or "\0" in name + password:
        return None
    return name, password


class Remembered(OrderedDict):
    """The latest so many things."""

    def put(self, key, value):
        self[key] = value
        self.move_to_end(key)
        while len(self) > REMEMBERED:
            self.popitem(last=False)


class Allowance:
    """How many wrong passwords somebody may still send: a number, and one more each so many seconds."""

    def __init__(self, most, seconds, clock=time.monotonic):
        self._most, self._seconds, self._clock = most, seconds, clock
        self._spent = Remembered()

    def _has_spent(self, who):
        spent, at = self._spent.get(who, (0.0, 0.0))
        return max(spent - (self._clock() - at) / self._seconds, 0.0)

    def wait(self, who):
        """For how many seconds `who` has to wait, 0 for none."""
        return max((self._has_spent(who) + 1 - self._most) * self._seconds, 0.0)

    def spend(self, who, number=1):
        self._spent.put(who, (max(self._has_spent(who) + number, 0.0), self._clock()))


class Rows:
    """The users' rows, as they are now."""

    def __init__(self, read):
        """
        :arg read: Takes names, returns {name: row} of those that there are; it is called in a thread.
        """
        self._read = read
        self._asked = {}
        self._task = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="users")

    async def get(self, name):
        """The row as it is at some moment after this was called."""
        answer = self._asked.get(name)
        if answer is None:
            answer = self._asked[name] = asyncio.get_running_loop().create_future()
            # Where all who asked have gone, nobody fetches the error.
            answer.add_done_callback(lambda it: it.cancelled() or it.exception())
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await asyncio.shield(answer)

    async def _work(self):
        try:
            while self._asked:
                # Whoever comes from here on is not answered by this question, but by the next.
                asked, self._asked = self._asked, {}
                try:
                    found = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, list(asked))
                except Exception as error:
                    for answer in asked.values():
                        answer.set_exception(error)
                else:
                    for name, answer in asked.items():
                        answer.set_result(found.get(name))
        finally:
            self._task = None


class Users:
    """
    The table of users, read by a connection of its own: whoever waits for a connection of MLflow's pools holds up no login.

    Like those of the pools it is made anew when it is `recycle` seconds old, so that a rotation of the password can end the
    former one.
    """

    READ = "SELECT id, username, password_hash, is_admin FROM users WHERE username = ANY(%s)"

    def __init__(self, connect, lost, make, recycle, clock=time.monotonic):
        """
        :arg connect: Makes a connection that commits by itself.
        :arg lost: The errors that mean that it has ended.
        :arg make: Makes a row of the four columns.
        """
        self._connect, self._lost, self._make, self._recycle, self._clock = connect, lost, make, recycle, clock
        self._connection, self._made = None, 0.0

    def __call__(self, names):
        """{name: row} of those that there are."""
        if self._connection is not None and self._clock() - self._made > self._recycle:
            self._close()
        fresh = self._connection is None
        try:
            return self._read(names)
        except self._lost:
            self._close()
            if fresh:
                raise
        # It had ended meanwhile, as all do when the database was away.
        return self._read(names)

    def _read(self, names):
        if self._connection is None:
            self._connection, self._made = self._connect(), self._clock()
        return {row[1]: self._make(*row) for row in self._connection.execute(self.READ, (names,)).fetchall()}

    def _close(self):
        with contextlib.suppress(Exception):
            self._connection.close()
        self._connection = None


class Throttled(Exception):
    def __init__(self, seconds):
        self.seconds = max(int(seconds + 0.999), 1)


class Checks:
    """Whether a name and a password belong together."""

    def __init__(self, rows, matches, ttl, clock=time.monotonic):
        """
        :arg rows: Rows; a row has a `password_hash`.
        :arg matches: Tells whether a row and a password belong together; it is called in a thread and takes long. Without
            a row it takes as long and says no.
        :arg ttl: For how many seconds that is remembered.
        """
        self._rows, self._matches, self._ttl, self._clock = rows, matches, ttl, clock
        self._key = secrets.token_bytes(32)
        self._known = Remembered()
        self._under_way = {}
        self._of_name = Allowance(*OF_NAME, clock)
        self._of_address = Allowance(*OF_ADDRESS, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    async def user(self, name, password, address):
        """
        The row of a user who has this name and password, or nothing.

        :raises Throttled: where it was not looked at, because too many were wrong.
        """
        row = await self._rows.get(name)
        key = (name, row and row.password_hash, hmac.digest(self._key, password.encode(), "sha256"))
        right, until = self._known.get(key, (None, 0.0))
        if right is None or self._clock() >= until:
            right = await self._look(key, row, password, address)
        return row if right else None

    async def _look(self, key, row, password, address):
        check = self._under_way.get(key)
        if check is None:
            seconds = max(self._of_name.wait((key[0], address)), self._of_address.wait(address))
            if seconds or len(self._under_way) >= WAITING:
                raise Throttled(seconds)
            # Counted before it is known to be wrong: else all that come at once would be looked at.
            self._of_name.spend((key[0], address))
            self._of_address.spend(address)
            check = self._under_way[key] = asyncio.create_task(self._check(key, row, password, address))
        return await asyncio.shield(check)

    async def _check(self, key, row, password, address):
        try:
            right = await asyncio.get_running_loop().run_in_executor(self._thread, self._matches, row, password)
        finally:
            del self._under_way[key]
        self._known.put(key, (right, self._clock() + self._ttl))
        if right:
            self._of_name.spend((key[0], address), -1)
            self._of_address.spend(address, -1)
        return right


class Logins:
    """An ASGI application that lets another one have the requests of users only."""

    def __init__(self, app, checks, is_public, unavailable=()):
        """
        :arg is_public: Tells of a path whether it needs no login. Such a request goes on without a body.
        :arg unavailable: The errors that mean that the database is not there.
        """
        self._app, self._checks, self._is_public, self._unavailable = app, checks, is_public, unavailable

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # What a browser asks before it sends a login; MLflow says who may ask from where.
        asks_only = scope["method"] == "OPTIONS" and not any(name == b"authorization" for name, _ in scope["headers"])
        if asks_only or self._is_public(scope["path"]):
            await self._app(scope, without_body(receive), send)
            return
        given = credentials(scope["headers"])
        if given is None:
            await turn_away(receive, send, 401, NOT_LOGGED_IN, CHALLENGE)
            return
        try:
            user = await self._user(scope, *given)
        except Throttled as wait:
            after = (b"retry-after", str(wait.seconds).encode())
            await turn_away(receive, send, 429, TOO_MANY, [*JSON, after])
            return
        except self._unavailable as error:
            _logger.error("a login could not be checked: %s", type(error).__name__)
            await turn_away(receive, send, 503, NO_DATABASE, [*JSON, (b"retry-after", b"1")])
            return
        if user is None:
            await turn_away(receive, send, 401, NOT_LOGGED_IN, CHALLENGE)
            return
        token = _caller.set((*given, user))
        try:
            await self._app({**scope, "mlflow.user": given[0], "mlflow.login": self._again(scope, given)}, receive, send)
        finally:
            _caller.reset(token)

    async def _user(self, scope, name, password):
        return await self._checks.user(name, password, (scope.get("client") or ("the host",))[0])

    def _again(self, scope, given):
        """Looks once more, for a request that took its time to arrive: whether it is still let in."""

        async def again():
            user = await self._user(scope, *given)
            if user is not None:
                _caller.set((*given, user))
            return user is not None

        return again


def caller():
    """The user whose request this is, with `username` and `is_admin`, or nothing outside of one."""
    found = _caller.get()
    return found and found[2]


def take_over(auth):
    """
    Put the logins of this file into MLflow's basic authentication (mlflow.server.auth), and return what Logins wants:
    Checks, the test of public paths, and the error that means that the database is not there.
    """
    import psycopg
    from werkzeug.security import check_password_hash, generate_password_hash

    nobody = generate_password_hash(secrets.token_urlsafe(16))
    recycle = float(os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE"])

    def connect():
        return psycopg.connect("service=mlflow", autocommit=True)

    read = Users(connect, psycopg.OperationalError, auth.User, recycle)

    def matches(row, password):
        # An unknown name takes as long as a wrong password, so that the time tells nobody which names there are.
        right = check_password_hash(row.password_hash if row else nobody, password)
        return right and row is not None and not auth._is_disabled_legacy_admin_login(row.username, password, row)

    def _authenticate_cached(username, password):
        found = _caller.get()
        if found is None or found[:2] != (username, password):
            # A way in that does not come through Logins is none.
            return None
        return found[2]

    def sender_is_admin():
        user = caller()
        return user is not None and user.is_admin

    auth._authenticate_cached = _authenticate_cached
    auth.sender_is_admin = sender_is_admin
    # MLflow's own cache stays empty; were it none, MLflow would hash the password itself.
    ttl = auth.auth_config.auth_cache_ttl_seconds
    auth._USER_AUTH_CACHE = {}
    return Checks(Rows(read), matches, ttl), auth.is_unprotected_route, psycopg.Error
