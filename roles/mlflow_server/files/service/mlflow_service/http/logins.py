# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who a request is from, found out before anything else is done for it.

MLflow checks a password wherever a route asks who is calling: several times for a request, on the event loop for its
native routes, and each check of a password that it does not remember takes a tenth of a second and 32 MiB. Here it is
done once, first of all and beside the loop:

- The user's row is read from the database for every request, so who was removed or demoted, or whose password is another
  one, is so on every worker of every host at once. Requests that come together are one question to the database.
- A password that was right stays right for as long as the row has the same hash, and one that was wrong stays wrong;
  mlflow_server_auth_cache_ttl says for how long after its last use that is remembered.
- Passwords are hashed one at a time, one of each address in turn. Whoever sends many wrong ones is told to wait (429), before
  anything is hashed: per name and address, and per address, as nginx names it, of IPv6 per network. Each worker counts for
  itself.

What MLflow checks with a login, it still checks: this only hands it the user (a ContextVar, so that nothing that a client
sends can name one), in the place of _authenticate_cached and sender_is_admin. docs/security.md has the whole.
"""

import asyncio
import base64
import binascii
import contextlib
import contextvars
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor

from mlflow_service.http.bodies import answer, without_body

# So many wrong passwords at once, and one more each so many seconds. Of one name from one address:
OF_NAME = (5, 5.0)
# Of all names from one address, behind which there may be a whole company:
OF_ADDRESS = (200, 0.5)
# Those of whom something is remembered, at most: logins, names, addresses.
REMEMBERED = 10_000
# Passwords that wait to be hashed, at most: of one address, whose turn comes as often as any other's, and of all.
OF_ONE_WAIT, OF_ALL_WAIT = 200, 2000
# A login that was checked so long ago is checked once more before its request is carried out: the user may be none by now.
OLD = 0.5
# Who manages users and their rights is looked at in the very moment.
MANAGES = re.compile(r"/mlflow/(users|roles|webhooks)(/|$)|/permissions(/|$)")
LONGEST = 1024
# Where MLflow passes calls on to others. A login in this header leaves the usual one to the client's own key for the provider.
GATEWAY, GATEWAY_LOGIN = "/gateway/", b"x-mlflow-authorization"

_logger = logging.getLogger("uvicorn.error")
_caller = contextvars.ContextVar("mlflow_caller", default=None)

NOT_LOGGED_IN = (
    b"You are not authenticated. Please see https://www.mlflow.org/docs/latest/auth/index.html#authenticating-to-mlflow "
    b"on how to authenticate."
)
CHALLENGE = [(b"www-authenticate", b'Basic realm="mlflow"'), (b"content-type", b"text/html; charset=utf-8")]
NOBODY = (401, NOT_LOGGED_IN, CHALLENGE)
JSON = [(b"content-type", b"application/json")]
NO_DATABASE = b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "The database does not answer."}'
BUSY = b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Many logins are being checked; try again."}'
TOO_MANY = b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Too many wrong passwords; try again later."}'


def login_header(scope):
    """In which header the login of a request is."""
    if scope["path"].startswith(GATEWAY) and any(name == GATEWAY_LOGIN and value for name, value in scope["headers"]):
        return GATEWAY_LOGIN
    return b"authorization"


def for_the_gateway(scope, header):
    """
    The request with its login in the header that goes no further. MLflow passes on the usual one, password and all, where a
    client calls itself one of the programs that bring a provider's key of their own.
    """
    if not scope["path"].startswith(GATEWAY):
        return scope
    others = [(name, value) for name, value in scope["headers"] if name not in (header, GATEWAY_LOGIN)]
    return {**scope, "headers": others + [(GATEWAY_LOGIN, value) for name, value in scope["headers"] if name == header]}


def credentials(headers, header=b"authorization"):
    """The name and the password of a request's only header of a login, or nothing."""
    given = [value for name, value in headers if name == header]
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
    def __init__(self, seconds, said=TOO_MANY):
        self.seconds = max(int(seconds + 0.999), 1)
        self.said = said


def whose(address):
    """What counts as one address for limits: whoever has one of IPv6 has its network, and could guess from another each time."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))


class Turns:
    """Passwords are hashed one at a time: first those that were right before, then one of each address in turn."""

    def __init__(self):
        self._first = deque()
        self._of = OrderedDict()
        self._waiting = 0
        self._task = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    async def run(self, address, first, function, *arguments):
        # Who is refused leaves no empty queue behind: the worker would end on it, and all others would wait for nobody.
        if not first and (len(self._of.get(address, ())) >= OF_ONE_WAIT or self._waiting >= OF_ALL_WAIT):
            raise Throttled(1, BUSY)
        queue = self._first if first else self._of.setdefault(address, deque())
        answer = asyncio.get_running_loop().create_future()
        queue.append((answer, function, arguments))
        self._waiting += 1
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await answer

    def _next(self):
        if self._first:
            return self._first.popleft()
        address, queue = self._of.popitem(last=False)
        found = queue.popleft()
        if queue:
            self._of[address] = queue
        return found

    async def _work(self):
        try:
            while self._first or self._of:
                answer, function, arguments = self._next()
                self._waiting -= 1
                try:
                    result = await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
                except Exception as error:
                    result = error
                if answer.done():
                    # Whoever asked has gone.
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
        finally:
            self._task = None


class Checks:
    """Whether a name and a password belong together."""

    def __init__(self, rows, matches, ttl, limits=True, clock=time.monotonic):
        """
        :arg rows: Rows; a row has a `password_hash`.
        :arg matches: Tells whether a row and a password belong together; it is called in a thread and takes long. Without
            a row it takes as long and says no.
        :arg ttl: For how many seconds without use that is remembered.
        :arg limits: Whether addresses are those of clients, so that there are limits for each. Behind a load balancer that
            nobody has named they are all the load balancer's, and whoever guesses would lock everybody out.
        """
        self._rows, self._matches, self._ttl, self._limits, self._clock = rows, matches, ttl, limits, clock
        self._key = secrets.token_bytes(32)
        self._known = Remembered()
        self._under_way = {}
        self._of_name = Allowance(*OF_NAME, clock)
        self._of_address = Allowance(*OF_ADDRESS, clock)
        self._turns = Turns()

    async def user(self, name, password, address):
        """
        The row of a user who has this name and password, or nothing.

        :raises Throttled: where it was not looked at, because too many were wrong, or too many wait.
        """
        row = await self._rows.get(name)
        key = (name, row and row.password_hash, hmac.digest(self._key, password.encode(), "sha256"))
        right, until = self._known.get(key, (False, 0.0))
        if self._clock() < until:
            if right:
                self._known.put(key, (right, self._clock() + self._ttl))
        else:
            right = await self._look(key, row, password, address, right)
        return row if right else None

    async def _look(self, key, row, password, address, was_right):
        check = self._under_way.get(key)
        if check is None:
            # What was right once has the same hash still, so it is no guess.
            counts = self._limits and not was_right
            if counts:
                seconds = max(self._of_name.wait((key[0], address)), self._of_address.wait(address))
                if seconds:
                    raise Throttled(seconds)
                # Counted before it is known to be wrong: else all that come at once would be looked at.
                self._count(key[0], address, 1)
            check = self._under_way[key] = asyncio.create_task(self._check(key, row, password, address, was_right, counts))
            # Where all who asked have gone, nobody fetches the error.
            check.add_done_callback(lambda it: it.cancelled() or it.exception())
        return await asyncio.shield(check)

    def _count(self, name, address, number):
        self._of_name.spend((name, address), number)
        self._of_address.spend(address, number)

    async def _check(self, key, row, password, address, was_right, counts):
        right = None
        try:
            right = await self._turns.run(address if self._limits else key[0], was_right, self._matches, row, password)
        finally:
            del self._under_way[key]
            if counts and right is not False:
                self._count(key[0], address, -1)
        self._known.put(key, (right, self._clock() + self._ttl))
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
            await self._app(*without_body(scope, receive), send)
            return
        header = login_header(scope)
        given = credentials(scope["headers"], header)
        user, refusal = await self._ask(scope, given) if given else (None, NOBODY)
        if refusal:
            await answer(send, *refusal)
            return
        token = _caller.set((*given, user))
        about = {"mlflow.user": given[0], "mlflow.checked": time.monotonic(), "mlflow.login": self._again(scope, given)}
        try:
            await self._app({**for_the_gateway(scope, header), **about}, receive, send)
        finally:
            _caller.reset(token)

    async def _ask(self, scope, given):
        """The user and nothing, or nothing and what to answer: a status, a body and headers."""
        try:
            user = await self._checks.user(*given, whose((scope.get("client") or ("the host",))[0]))
        except Throttled as wait:
            return None, (429, wait.said, [*JSON, (b"retry-after", str(wait.seconds).encode())])
        except self._unavailable as error:
            _logger.error("a login could not be checked: %s", type(error).__name__)
            return None, (503, NO_DATABASE, [*JSON, (b"retry-after", b"1")])
        return (user, None) if user else (None, NOBODY)

    def _again(self, scope, given):
        """Looks once more, for a request that had to wait: what to answer where it is not let in any more."""

        async def again():
            user, refusal = await self._ask(scope, given)
            if user is not None:
                _caller.set((*given, user))
            return refusal

        return again


async def refusal_of(scope):
    """What to answer to a request that waited so long that its user may be none any more, or nothing."""
    if "mlflow.login" not in scope:
        return None
    if time.monotonic() - scope["mlflow.checked"] <= OLD and not MANAGES.search(scope["path"]):
        return None
    return await scope["mlflow.login"]()


def shown():
    """Name and password that this request came with, after they were found right; nothing outside of one."""
    found = _caller.get()
    return found and found[:2]


def caller():
    """The user whose request this is, with `username` and `is_admin`, or nothing outside of one."""
    found = _caller.get()
    return found and found[2]
