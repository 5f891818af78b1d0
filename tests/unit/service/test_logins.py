# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who a request is from: what is a login, when it is checked, and who has to wait."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "mlflow_server" / "files" / "service"))

from mlflow_service.compat import ground  # noqa: E402
from mlflow_service.compat.auth import PATCH, remember_nobody, take_over  # noqa: E402
from mlflow_service.http import logins  # noqa: E402
from mlflow_service.http.logins import Allowance, Checks, Logins, Rows, Throttled, Turns, Users, credentials, refusal_of  # noqa: E402


def basic(text):
    return (b"authorization", b"Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()))


def test_a_login_is_a_name_and_a_password():
    assert credentials([(b"host", b"x"), basic("ada:se:cret ü")]) == ("ada", "se:cret ü")
    assert credentials([(b"authorization", b"bAsIc " + base64.b64encode(b"a:b"))]) == ("a", "b")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer abc")],
        [(b"authorization", b"Digest x")],
        [(b"authorization", b"Basic")],
        [(b"authorization", b"Basic !!!")],
        [basic("ada")],
        [basic("ada:")],
        [basic(":secret")],
        [basic(b"ada:\xff\xfe")],
        [basic("ada:sec\0ret")],
        [basic("ada:secret"), basic("ada:secret")],
        [basic("ada:" + "x" * 2000)],
    ],
)
def test_what_is_no_login(headers):
    assert credentials(headers) is None


def test_a_login_is_as_long_as_may_be_and_no_longer():
    def header(size):
        # "Basic " and four characters for each three.
        return basic("ada:" + "x" * (size - 4))

    longest = (logins.LONGEST - 6) // 4 * 3
    assert credentials([header(longest)]) == ("ada", "x" * (longest - 4))
    assert credentials([header(longest + 6)]) is None


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Team:
    """Two users, their rows and how often they were read and their passwords hashed."""

    def __init__(self, ttl=60, seconds=0.0, limits=True):
        self.rows = {name: SimpleNamespace(username=name, password_hash=f"{name}!", is_admin=False) for name in ("ada", "bob")}
        self.read, self.hashed, self.clock = [], [], Clock()
        self.at_once = self.most = 0
        self._seconds = seconds
        self._lock = threading.Lock()
        self.checks = Checks(Rows(self._read), self._matches, ttl, limits, self.clock)

    def _read(self, names):
        self.read.append(sorted(names))
        return {name: self.rows[name] for name in names if name in self.rows}

    def _matches(self, row, password):
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self._seconds)
        with self._lock:
            self.at_once -= 1
        self.hashed.append((row and row.username, password))
        return row is not None and row.password_hash == f"{password}!"

    async def user(self, name, password, address="192.0.2.1"):
        found = await self.checks.user(name, password, address)
        return found and found.username


def test_a_right_password_is_hashed_once_and_its_row_read_each_time():
    async def ask():
        users = Team()
        assert [await users.user("ada", "ada") for _ in range(3)] == ["ada"] * 3
        assert len(users.hashed) == 1 and len(users.read) == 3
        # It is remembered as long as it is used.
        for _ in range(3):
            users.clock.now += 40
            assert await users.user("ada", "ada") == "ada" and len(users.hashed) == 1
        users.clock.now += 61
        assert await users.user("ada", "ada") == "ada" and len(users.hashed) == 2

    asyncio.run(ask())


@pytest.mark.parametrize("change", ["removed", "another password"])
def test_who_is_no_user_any_more_is_none_at_once(change):
    async def ask():
        users = Team()
        assert await users.user("ada", "ada") == "ada"
        if change == "removed":
            del users.rows["ada"]
        else:
            users.rows["ada"] = SimpleNamespace(username="ada", password_hash="other!", is_admin=False)
        assert await users.user("ada", "ada") is None

    asyncio.run(ask())


def test_who_was_demoted_is_no_administrator_at_once():
    async def ask():
        users = Team()
        users.rows["ada"].is_admin = True
        assert (await users.checks.user("ada", "ada", "x")).is_admin
        users.rows["ada"] = SimpleNamespace(username="ada", password_hash="ada!", is_admin=False)
        assert not (await users.checks.user("ada", "ada", "x")).is_admin and len(users.hashed) == 1

    asyncio.run(ask())


def test_requests_that_come_together_are_one_question_that_is_asked_after_they_came():
    async def ask():
        begun, go = threading.Event(), threading.Event()
        questions = []

        def read(names):
            questions.append(sorted(names))
            begun.set()
            go.wait(10)
            return dict.fromkeys(names, len(questions))

        rows = Rows(read)
        first = asyncio.create_task(rows.get("ada"))
        await asyncio.to_thread(begun.wait, 10)
        # The first question is under way: what these find must not be older than they are.
        later = [asyncio.create_task(rows.get(name)) for name in ("ada", "bob", "ada")]
        await asyncio.sleep(0)
        go.set()
        assert await first == 1 and [await it for it in later] == [2, 2, 2]
        assert questions == [["ada"], ["ada", "bob"]]

    asyncio.run(ask())


def test_where_the_database_is_away_all_who_asked_are_told_and_the_next_are_asked_again():
    async def ask():
        away = True

        def read(names):
            if away:
                raise ConnectionError("away")
            return dict.fromkeys(names, "row")

        rows = Rows(read)
        assert [type(it) for it in await asyncio.gather(*(rows.get("ada") for _ in range(3)), return_exceptions=True)] == [
            ConnectionError
        ] * 3
        away = False
        assert await rows.get("ada") == "row"

    asyncio.run(ask())


def test_passwords_are_hashed_one_at_a_time_and_the_same_ones_once():
    async def ask():
        users = Team(seconds=0.05)
        found = await asyncio.gather(*(users.user(name, name) for name in ("ada", "bob") * 4))
        assert found == ["ada", "bob"] * 4 and len(users.hashed) == 2 and users.most == 1
        # Nothing of it stays, whoever asks how often.
        assert users.checks._under_way == {}

    asyncio.run(ask())


def test_a_wrong_password_is_hashed_once():
    async def ask():
        users = Team()
        assert [await users.user("ada", "wrong") for _ in range(20)] == [None] * 20
        assert len(users.hashed) == 1
        # With another hash in the row it may be right.
        users.rows["ada"] = SimpleNamespace(username="ada", password_hash="wrong!", is_admin=False)
        assert await users.user("ada", "wrong") == "ada"

    asyncio.run(ask())


async def guesses(users, number, name="ada", address="192.0.2.1"):
    throttled = 0
    for guess in range(number):
        try:
            assert await users.user(name or f"user{guess}", f"guess {guess} {users.clock.now}", address) is None
        except Throttled as wait:
            assert wait.seconds >= 1
            throttled += 1
    return throttled


def test_who_guesses_has_to_wait_and_nobody_else_does():
    async def ask():
        users = Team()
        assert await users.user("bob", "bob") == "bob"
        assert await guesses(users, 50) == 50 - logins.OF_NAME[0]
        assert len(users.hashed) == 1 + logins.OF_NAME[0]
        # Bob at the same address, and Ada elsewhere.
        assert await users.user("bob", "bob") == "bob"
        assert await users.user("ada", "ada", "192.0.2.2") == "ada"
        users.clock.now += 2 * logins.OF_NAME[1]
        assert await guesses(users, 50) == 48

    asyncio.run(ask())


def test_who_guesses_names_has_to_wait_too():
    async def ask():
        users = Team()
        assert await guesses(users, 200, name=None) == 200 - logins.OF_ADDRESS[0]

    asyncio.run(ask())


def test_right_passwords_use_up_no_allowance():
    async def ask():
        users = Team(ttl=0)
        for _ in range(100):
            assert await users.user("ada", "ada") == "ada"

    asyncio.run(ask())


def test_a_right_password_makes_up_for_no_wrong_one():
    """Else whoever has a login could guess at others for ever, with his own in between."""

    async def ask():
        users = Team()
        assert await guesses(users, 3) == 0
        assert await users.user("ada", "ada") == "ada"
        # The first three are known to be wrong.
        assert await guesses(users, 50) == 50 - logins.OF_NAME[0]

    asyncio.run(ask())


def test_whoever_was_right_before_is_never_told_to_wait():
    async def ask():
        users = Team()
        assert await users.user("ada", "ada") == "ada"
        users.clock.now += 3600
        await guesses(users, 50)
        assert await users.user("ada", "ada") == "ada"
        # With another hash in the row that was somebody else's password.
        users.rows["ada"] = SimpleNamespace(username="ada", password_hash="new!", is_admin=False)
        with pytest.raises(Throttled):
            await users.user("ada", "ada")

    asyncio.run(ask())


def test_a_rush_of_right_logins_is_let_in():
    async def ask():
        users = Team()
        names = [f"user{number}" for number in range(150)]
        users.rows.update({name: SimpleNamespace(username=name, password_hash=f"{name}!", is_admin=False) for name in names})
        assert await asyncio.gather(*(users.user(name, name) for name in names)) == names

    asyncio.run(ask())


def test_whoever_guesses_from_many_addresses_holds_up_nobody_for_long():
    async def ask():
        users = Team(seconds=0.01)
        attack = [
            asyncio.create_task(users.user(f"user{number}", f"guess {number}", f"192.0.2.{number % 6 + 10}"))
            for number in range(300)
        ]
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        assert await users.user("ada", "ada", "192.0.2.99") == "ada"
        # One of each of the six addresses before it, and not all that they have sent.
        assert time.monotonic() - begun < 0.5
        assert not all(task.done() for task in attack)
        for task in attack:
            task.cancel()
        await asyncio.wait(attack)

    asyncio.run(ask())


def test_no_address_has_more_than_its_share_of_those_who_wait(monkeypatch):
    monkeypatch.setattr(logins, "OF_ONE_WAIT", 5)

    async def ask():
        users = Team(seconds=0.01)
        found = await asyncio.gather(*(users.user(f"user{n}", "x") for n in range(20)), return_exceptions=True)
        busy = [it for it in found if isinstance(it, Throttled)]
        assert 14 <= len(busy) <= 15 and {it.said for it in busy} == {logins.BUSY}

    asyncio.run(ask())


def test_where_all_addresses_are_a_load_balancers_nobody_is_told_to_wait():
    async def ask():
        users = Team(limits=False)
        assert await guesses(users, 30) == 0
        assert await users.user("ada", "ada") == "ada"

    asyncio.run(ask())


def test_guesses_that_come_together_are_not_all_looked_at():
    async def ask():
        users = Team(seconds=0.01)
        found = await asyncio.gather(*(users.user("ada", f"guess {n}") for n in range(40)), return_exceptions=True)
        assert sum(isinstance(it, Throttled) for it in found) == 40 - logins.OF_NAME[0]

    asyncio.run(ask())


def test_what_is_remembered_of_strangers_is_bounded(monkeypatch):
    monkeypatch.setattr(logins, "REMEMBERED", 10)
    allowance = Allowance(5, 1.0)
    for number in range(1000):
        allowance.spend(number)
    assert len(allowance._spent) == 10


@pytest.mark.parametrize("seconds, told", [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (4.5, 5), (60.0, 60)])
def test_who_has_to_wait_is_told_whole_seconds_and_never_too_few(seconds, told):
    assert Throttled(seconds).seconds == told and Throttled(seconds).said == logins.TOO_MANY


def test_an_allowance_is_spent_and_comes_back_with_time():
    clock = Clock()
    allowance = Allowance(3, 10.0, clock)
    waits = []
    for _ in range(5):
        waits.append(allowance.wait("ada"))
        allowance.spend("ada")
    assert waits == [0, 0, 0, 10, 20] and allowance.wait("ada") == 30 and allowance.wait("bob") == 0
    clock.now += 22
    assert allowance.wait("ada") == pytest.approx(8)
    clock.now += 3
    assert allowance.wait("ada") == pytest.approx(5)
    allowance.spend("ada", -1)
    assert allowance.wait("ada") == 0
    # However long nobody asks, and whatever is given back: there are never more than at the beginning.
    clock.now += 3600
    allowance.spend("ada", -1)
    for _ in range(3):
        assert allowance.wait("ada") == 0
        allowance.spend("ada")
    assert allowance.wait("ada") == 10


def test_what_was_used_last_is_remembered_longest(monkeypatch):
    monkeypatch.setattr(logins, "REMEMBERED", 3)
    remembered = logins.Remembered()
    for key in ("a", "b", "c", "a", "d"):
        remembered.put(key, key)
    assert list(remembered) == ["c", "a", "d"]


def in_turn(asked):
    """Who was served, in which order; `asked` are pairs of an address and whether it was right before."""
    served, go = [], threading.Event()

    async def run():
        turns = Turns()
        first = asyncio.create_task(turns.run("first", False, go.wait, 10))
        await asyncio.sleep(0.01)
        tasks = [asyncio.create_task(turns.run(address, first, served.append, address)) for address, first in asked]
        await asyncio.sleep(0.01)
        go.set()
        await asyncio.wait_for(asyncio.gather(first, *tasks), 5)
        # And the next one is served as well.
        assert await turns.run("first", False, str.upper, "x") == "X"

    asyncio.run(run())
    return served


def test_each_address_has_one_turn_and_who_was_right_before_has_the_first():
    few = [("many", False)] * 3 + [("b", False), ("c", False), ("b", False), ("known", True), ("known", True)]
    assert in_turn(few) == ["known", "known", "many", "b", "c", "many", "b", "many"]


def test_of_all_addresses_only_so_many_wait_and_who_was_right_before_always_may(monkeypatch):
    monkeypatch.setattr(logins, "OF_ALL_WAIT", 5)
    go = threading.Event()

    async def run():
        turns = Turns()
        under_way = asyncio.create_task(turns.run("x", False, go.wait, 10))
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(turns.run(str(n), False, str, n)) for n in range(8)]
        known = asyncio.create_task(turns.run("known", True, str, "known"))
        await asyncio.sleep(0.01)
        busy = [task.done() for task in waiting]
        go.set()
        # Whoever was refused has left nothing on which the others would wait for ever.
        found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert await known == "known" and await under_way
        assert busy == [False] * 5 + [True] * 3 and found[:5] == ["0", "1", "2", "3", "4"]
        assert {(type(it), it.said, it.seconds) for it in found[5:]} == {(Throttled, logins.BUSY, 1)}
        # Those who were served leave their places to others.
        assert await asyncio.gather(*(turns.run(str(n), False, str, n) for n in range(5))) == ["0", "1", "2", "3", "4"]

    asyncio.run(run())


def test_a_check_that_fails_is_told_to_its_own_caller_and_costs_nothing():
    async def ask():
        users = Team()
        matches, users.checks._matches = users.checks._matches, lambda row, password: 1 / 0
        for _ in range(3 * logins.OF_NAME[0]):
            with pytest.raises(ZeroDivisionError):
                await users.user("ada", "ada")
        users.checks._matches = matches
        # It was no guess, and nobody knows yet whether the password is right.
        assert await users.user("ada", "ada") == "ada"

    asyncio.run(ask())


def test_who_has_gone_holds_up_nobody():
    async def ask():
        users = Team(seconds=0.02)
        gone = [asyncio.create_task(users.user("ada", f"wrong {n}")) for n in range(2)]
        await asyncio.sleep(0.01)
        for task in gone:
            task.cancel()
        assert await users.user("bob", "bob") == "bob"
        assert [row for row, _password in users.hashed][-1] == "bob" and users.checks._under_way == {}

    asyncio.run(ask())


def test_a_turn_whose_caller_has_gone_is_no_error():
    go = threading.Event()

    async def run():
        turns = Turns()
        gone = asyncio.create_task(turns.run("x", False, go.wait, 10))
        next_one = asyncio.create_task(turns.run("y", False, str.upper, "y"))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        go.set()
        assert await asyncio.wait_for(next_one, 2) == "Y"

    asyncio.run(run())


def test_without_limits_the_turns_are_by_name():
    """All come from one address then, and whoever guesses one name holds up no other."""

    async def ask():
        users = Team(seconds=0.01, limits=False)
        attack = [asyncio.create_task(users.user("bob", f"guess {n}")) for n in range(100)]
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        assert await users.user("ada", "ada") == "ada" and time.monotonic() - begun < 0.5
        for task in attack:
            task.cancel()
        await asyncio.wait(attack)

    asyncio.run(ask())


def test_a_wrong_password_is_forgotten_after_a_time_and_looked_at_again():
    async def ask():
        users = Team()
        assert await users.user("ada", "wrong") is None
        users.clock.now += 59
        assert await users.user("ada", "wrong") is None and len(users.hashed) == 1
        # Other than a right one it is not remembered for longer because somebody goes on sending it.
        users.clock.now += 2
        assert await users.user("ada", "wrong") is None and len(users.hashed) == 2

    asyncio.run(ask())


# --- the table ---


class Database:
    """Connections that end when it goes away, and what was asked on each."""

    class Lost(Exception):
        pass

    def __init__(self):
        self.connections, self.away = [], False

    def connect(self):
        if self.away:
            raise self.Lost
        self.connections.append(Connection(self))
        return self.connections[-1]


class Connection:
    def __init__(self, database):
        self._database, self.asked, self.closed = database, 0, False

    def execute(self, statement, parameters):
        if self.closed or self._database.away:
            raise Database.Lost
        self.asked += 1
        rows = [(1, name, "hash", False) for name in parameters[0] if name == "ada"]
        return SimpleNamespace(fetchall=lambda: rows)

    def close(self):
        self.closed = True


def table(database, clock):
    def make(number, name, password_hash, is_admin):
        return name, is_admin

    return Users(database.connect, Database.Lost, make, 60, clock)


def test_users_are_read_on_one_connection_that_is_made_anew_when_it_is_old():
    database, clock = Database(), Clock()
    read = table(database, clock)
    assert read(["ada", "bob"]) == {"ada": ("ada", False)} == read(["ada"])
    assert len(database.connections) == 1
    clock.now += 61
    read(["ada"])
    assert [it.closed for it in database.connections] == [True, False]


def test_a_connection_that_has_ended_is_no_error_and_a_database_that_is_away_is_one():
    database, clock = Database(), Clock()
    read = table(database, clock)
    read(["ada"])
    database.connections[0].closed = True
    assert read(["ada"]) and len(database.connections) == 2
    database.away = True
    for _ in range(2):
        with pytest.raises(Database.Lost):
            read(["ada"])
    database.away = False
    assert read(["ada"])


# --- the application ---


async def inner(scope, receive, send):
    message = await receive()
    caller = logins.caller()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    text = f"{caller and caller.username} {scope.get('mlflow.user')} {message.get('body', b'').decode()}"
    await send({"type": "http.response.body", "body": text.encode()})


def ask(application, headers=(), path="/api", method="GET", body=b"body"):
    sent, read = [], []
    waiting = [{"type": "http.request", "body": body, "more_body": True}, {"type": "http.request", "body": b""}]

    async def receive():
        read.append(waiting[0].get("body"))
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": list(headers), "client": ("192.0.2.1", 1)}
    asyncio.run(application(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(it.get("body", b"") for it in sent[1:]), sent


def application(error=None):
    async def user(name, password, address):
        if error:
            raise error
        assert address == "192.0.2.1"
        return SimpleNamespace(username=name, is_admin=False) if password == "secret" else None

    return Logins(inner, SimpleNamespace(user=user), lambda path: path == "/health", (ConnectionError,))


def test_a_user_is_let_in_and_known_as_long_as_the_request_lasts():
    assert ask(application(), [basic("ada:secret")])[2] == b"ada ada body"
    assert logins.caller() is None


@pytest.mark.parametrize("headers", [[], [basic("ada:wrong")], [(b"authorization", b"Bearer x")]])
def test_nobody_else_is_and_the_answer_is_whole_before_the_body_has_come(headers):
    status, answered, body, sent = ask(application(), headers)
    assert status == 401 and answered[b"www-authenticate"] == b'Basic realm="mlflow"'
    assert int(answered[b"content-length"]) == len(body)
    assert len(sent[1]["body"]) == len(body)


def test_a_public_path_is_open_and_gets_no_body():
    assert ask(application(), path="/health")[2] == b"None None "


def test_a_browser_may_ask_what_it_may_send():
    assert ask(application(), method="OPTIONS")[2] == b"None None "
    assert ask(application(), [basic("ada:wrong")], method="OPTIONS")[0] == 401


def test_who_has_to_wait_is_told_how_long():
    status, headers, *_ = ask(application(Throttled(2.2)), [basic("ada:x")])
    assert status == 429 and headers[b"retry-after"] == b"3"


def test_a_database_that_is_away_is_told_in_our_words():
    status, headers, body, _ = ask(application(ConnectionError("host db.internal role mlflow_a")), [basic("ada:x")])
    assert status == 503 and b"mlflow_a" not in body and headers[b"retry-after"] == b"1"


def test_what_is_no_request_goes_on_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    scope = {"type": "lifespan"}
    asyncio.run(Logins(app, None, None)(scope, "receive", "send"))
    assert seen == [(scope, "receive", "send")]


def test_who_comes_by_the_socket_has_a_name_for_limits_too():
    addresses = []

    async def user(name, password, address):
        addresses.append(address)

    async def send(message):
        pass

    scope = {"type": "http", "path": "/api", "method": "GET", "headers": [basic("ada:secret")], "client": None}
    asyncio.run(Logins(inner, SimpleNamespace(user=user), lambda path: False)(scope, None, send))
    assert addresses == ["the host"]


# --- a request that had to wait ---


@pytest.fixture
def waiting(monkeypatch):
    """Lets a user in, and returns what is answered when his request's turn comes, and who he is by then."""

    def wait(rows, path="/api/2.0/mlflow/runs/create", old=0.0):
        rows = [SimpleNamespace(username="ada", is_admin=is_admin) if row else None for row, is_admin in rows]
        monkeypatch.setattr(logins, "OLD", old)
        asked, found = [], []

        async def user(name, password, address):
            asked.append((name, password, address))
            return rows.pop(0)

        async def app(scope, receive, send):
            refusal = await refusal_of(scope)
            found.append((refusal and refusal[0], logins.caller().is_admin, len(asked)))

        async def send(message):
            raise AssertionError(message)

        scope = {"type": "http", "path": path, "method": "POST", "headers": [basic("ada:x")], "client": ("192.0.2.1", 1)}
        asyncio.run(Logins(app, SimpleNamespace(user=user), lambda path: False)(scope, None, send))
        assert set(asked) == {("ada", "x", "192.0.2.1")}
        return found[0]

    return wait


def test_who_was_demoted_while_he_waited_is_no_administrator_when_his_turn_comes(waiting):
    assert waiting([(True, True), (True, False)]) == (None, False, 2)


def test_who_was_removed_while_he_waited_is_refused(waiting):
    assert waiting([(True, True), (False, False)]) == (401, True, 2)


@pytest.mark.parametrize("path, looks", [
    ("/api/2.0/mlflow/runs/create", False), ("/api/2.0/mlflow/users", True), ("/api/3.0/mlflow/webhooks/1", True),
    ("/api/2.0/mlflow/experiments/permissions/create", True), ("/api/2.0/mlflow/userspace", False),
    ("/ajax-api/3.0/mlflow/roles/permissions/add", True),
])  # fmt: skip
def test_only_who_manages_users_is_looked_at_twice_at_once(waiting, path, looks):
    assert waiting([(True, True)] * 2, path, old=60.0)[2] == (2 if looks else 1)


def test_where_nobody_logs_in_nobody_is_looked_at():
    assert asyncio.run(refusal_of({"type": "http", "path": "/api/2.0/mlflow/users"})) is None


# --- MLflow's own module, as far as it is taken over; with a real PostgreSQL and real hashes ---


@pytest.fixture
def auth(server, tmp_path, monkeypatch):
    pytest.importorskip("psycopg2")
    from mlflow_service.database import client

    security = pytest.importorskip("werkzeug.security")
    service = tmp_path / "pg_service.conf"
    service.write_text(f"[mlflow]\nhost={server}\nuser=mlflow\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE", "60")
    monkeypatch.setenv("MLFLOW_SERVER_ADDRESSES", "true")
    with client.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS users")
        connection.execute("CREATE TABLE users (id int, username text, password_hash text, is_admin bool)")
        for row in ((1, "ada", True), (2, "bob", False), (3, "admin", True)):
            hashed = security.generate_password_hash(row[1] + "!", method="pbkdf2:sha256:1000")
            connection.execute("INSERT INTO users VALUES (%s, %s, %s, %s)", (*row[:2], hashed, row[2]))

    def make(number, username, password_hash, is_admin):
        return SimpleNamespace(id=number, username=username, password_hash=password_hash, is_admin=is_admin)

    made = SimpleNamespace(
        User=make,
        # The password that MLflow's documentation names.
        _is_disabled_legacy_admin_login=lambda name, password, user: name == "admin" and user.id == 3,
        auth_config=SimpleNamespace(auth_cache_ttl_seconds=60),
        is_unprotected_route=lambda path: path == "/health",
        _USER_AUTH_CACHE=None,
    )
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.server", SimpleNamespace(auth=made))
    return made


@pytest.mark.parametrize(
    "name, password, is_let_in, is_admin",
    [("ada", "ada!", True, True), ("bob", "bob!", True, False), ("ada", "bob!", False, False), ("eve", "eve!", False, False),
     ("admin", "admin!", False, False)],
)  # fmt: skip
def test_mlflow_takes_the_user_who_was_let_in_and_no_other(auth, name, password, is_let_in, is_admin):
    found = []

    async def app(scope, receive, send):
        # What a route asks; another login in the same request is none.
        user = auth._authenticate_cached(name, password)
        others = [auth._authenticate_cached(*other) for other in (("bob", "x"), (name, "x"), ("x", password))]
        found.append((user.username, user.id, auth.sender_is_admin(), others))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    status, *_ = ask(Logins(app, *take_over()), [basic(f"{name}:{password}")])
    number = {"ada": 1, "bob": 2}.get(name)
    assert status == (200 if is_let_in else 401)
    assert found == ([(name, number, is_admin, [None] * 3)] if is_let_in else [])
    # Outside of a request nobody is anybody.
    assert auth._authenticate_cached(name, password) is None and auth.sender_is_admin() is False
    # Without a cache MLflow would hash by itself.
    assert auth._USER_AUTH_CACHE == {}


def test_mlflow_says_what_is_public_and_a_database_that_is_away_is_told(auth, monkeypatch):
    application = Logins(inner, *take_over())
    assert ask(application, path="/health")[0] == 200 and ask(application)[0] == 401
    monkeypatch.setenv("PGSERVICEFILE", "/nowhere")
    assert ask(Logins(inner, *take_over()), [basic("ada:ada!")])[0] == 503


@pytest.mark.parametrize("told, limits", [("true", True), ("false", False), (None, False)])
def test_guesses_are_counted_where_the_addresses_are_those_of_clients(auth, monkeypatch, told, limits):
    monkeypatch.delenv("MLFLOW_SERVER_ADDRESSES")
    if told:
        monkeypatch.setenv("MLFLOW_SERVER_ADDRESSES", told)

    async def guess():
        checks, *_ = take_over()
        checks._matches = lambda row, password: False
        found = [await asyncio.gather(checks.user("ada", f"guess {n}", "192.0.2.1"), return_exceptions=True) for n in range(6)]
        return isinstance(found[-1][0], Throttled)

    assert asyncio.run(guess()) is limits


def test_where_logins_are_mlflows_own_nobody_is_remembered_who_may_be_gone(auth):
    auth._USER_AUTH_CACHE = {"ada": "a user"}
    remember_nobody()
    assert auth._USER_AUTH_CACHE is None
    del auth._USER_AUTH_CACHE
    remember_nobody()
    assert not hasattr(auth, "_USER_AUTH_CACHE")


def test_where_nobody_logs_in_nobody_is_asked_to(monkeypatch):
    """Although MLflow has all that logins stand on."""
    monkeypatch.setattr(ground, "moved", lambda patch, fingerprints: "")
    assert ground.Ground([PATCH], auth=True).has(PATCH) and not ground.Ground([PATCH], auth=False).has(PATCH)
