# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Each call that MLflow knows, made on the deployed server and on a plain one of the same version: the answers are the same.

The list of calls is MLflow's own, so that a route which no case covers fails by name (conftest.py). A difference that is meant
has its reason in meant.py.
"""

from __future__ import annotations

import random
import re
import time
from urllib.parse import quote

import pytest
from clients import API
from compare import CALLERS, Found, tally
from meant import MEANT, used
from routes import CLOSED, who_may
from things import PART, ends, how_late, request
from variants import WRONG, bodies, parameters

# Of the web page's routes, which are those of the clients under another name: by these they tell whether they ask who it is.
FEWER = ("stranger", "reader", "editor", "admin")
ODD = {
    "Bearer": "Bearer abc", "Digest": 'Digest username="admin"', "Basic alone": "Basic", "no colon": "Basic YWRtaW4=",
    "broken base64": "Basic !!!", "no UTF-8": "Basic //79Og==", "another word": "Negotiate abc", "empty": "",
    "only a colon": "Basic Og==", "nobody": "Basic bm9ib2R5OndyaXR0ZW4gZG93bg==", "two spaces": "Basic  Og==",
    "lower case": "basic bm9ib2R5OndyaXR0ZW4gZG93bg==",
}  # fmt: skip


# Calls that are carried out for nobody here, since what they are about is not there.
NEVER = re.compile(
    r"""
      \S+\ /(ajax-)?api/2\.0(/mlflow/(get-online-trace-details|unified-traces)|mlflow/.*)  # MLflow answers them with 404 itself
    | \S+\ /(ajax-)?api/3\.0/mlflow/workspaces.*  # are off
    | \S+\ /(ajax-)?api/2\.0/mlflow/webhooks.*  # would be called
    | GET\ /(ajax-)?api/3\.0/mlflow/prompt-optimization/jobs/<job_id>  # there are no jobs
    | POST\ /(ajax-)?api/2\.0/mlflow/artifacts/presigned-(up|down)load-url  # artifacts pass through the server
    | POST\ /(ajax-)?api/2\.0/mlflow-artifacts/mpu/complete/.*  # nobody has sent parts to the store
    | GET\ /graphql  # takes its query in the body
    | POST\ /api/2\.0/mlflow/users/create-ui  # wants the token of the page's form
    | POST\ /ajax-api/2\.0/mlflow/runs/create-promptlab-run  # asks a model
    | GET\ /ajax-api/\d\.0/mlflow/get-trace-artifact  # traces that were told by clients have no file
    | DELETE\ /(ajax-)?api/3\.0/mlflow/traces/<trace_id>/tags  # the other path for the same tag came first
    """,
    re.VERBOSE,
)
# What a part of a path may be instead.
IN_PATH = {name: quote(WRONG[name], safe="", errors="surrogatepass") for name in (
    "a word", "an id that nobody has", "a number in a word", "text in several scripts", "a NUL", "half a character", "a quote",
)}  # fmt: skip


class Calls:
    """The calls of one route on both servers."""

    def __init__(self, twins, found, method, route):
        self.twins, self.found, self.method, self.route = twins, found, method, route

    def right(self, side, **instead):
        return request(self.method, self.route, side.things, side.people, **instead)

    def by(self, caller):
        """Whether the call was carried out."""
        answers = self.twins.ask(self.right, caller)
        self.found.look(caller, self.method, self.route, answers)
        return answers[0].status < 400

    def logged_in_by(self, what, header):
        def make(side):
            *rest, headers = self.right(side)
            return (*rest, {**headers, "Authorization": header})

        self.found.look(what, self.method, self.route, self.twins.ask(make, "stranger"))

    def wrong(self, fields, chosen):
        """Each that the choice takes, of the parameters, paths and bodies that a call may have instead of the right ones."""

        def ask(what, make):
            if chosen():
                self.found.look(what, self.method, self.route, self.twins.ask(make, "admin"))

        for what, change in parameters(self._peek(), fields):
            def make(side, change=change):
                method, path, right, headers = self.right(side)
                return method, path, change(right), headers

            ask(what, make)
        for part in PART.findall(self.route):
            for what, text in IN_PATH.items():
                ask(f"{part} is {what}", lambda side, part=part, text=text: self.right(side, **{part: text}))
        for what, change, kind in bodies() if self.method != "GET" else ():
            def make(side, change=change, kind=kind):
                method, path, right, headers = self.right(side)
                return method, path, None, {**headers, **({"Content-Type": kind} if kind else {})}, change(right)

            ask(what, make)

    def _peek(self):
        """The right parameters, without the names in them being used up."""
        words = self.twins.ours.words
        before = words.getstate()
        right = self.right(self.twins.ours)[2]
        words.setstate(before)
        return right


def is_open(method, route):
    return who_may(method, route) != CLOSED


def is_ajax(route):
    return "/ajax-api" in route


def routes_of(known, ajax):
    """Those that are open; those that end or move a thing come last."""
    routes = [(method, route) for method, route in known.routes if is_open(method, route) and is_ajax(route) == ajax]
    return [*(it for it in routes if not ends(*it)), *sorted((it for it in routes if ends(*it)), key=how_late)]


@pytest.mark.everyday
@pytest.mark.parametrize("ajax", [False, True], ids=["api", "ajax-api"])
def test_everybody_is_answered_as_by_mlflow(twins, known, ajax):
    """The right call, by each kind of caller, those who may the least first; that it is right is seen by the last of them."""
    found, never = Found(), []
    twins.new_things()
    for method, route in routes_of(known, ajax):
        tally["routes"] += 1
        if ends(method, route):
            # What was renamed is asked for by its new name.
            for side in twins.sides:
                side.things.is_ended = True
        calls = Calls(twins, found, method, route)
        if not any([calls.by(caller) for caller in (FEWER if ajax else CALLERS)]):
            never.append(f"{method} {route}")
        if route.endswith("/users/update-password"):
            twins.plain.learned(twins.plain.known)
    closed = [route for method, route in known.routes if not is_open(method, route) and is_ajax(route) == ajax]
    tally["routes that are closed"] += len(closed)
    found.none()
    rotten = [route for route in never if not NEVER.fullmatch(route)]
    assert rotten == [], "\n".join(["nobody's call was right:", *rotten])


@pytest.mark.everyday
def test_odd_logins_are_answered_as_by_mlflow(twins, known):
    """Two of them for each route, so that each of them meets each part of the server."""
    found, kinds = Found(), list(ODD.items())
    for number, (method, route) in enumerate(routes_of(known, False)):
        for what, header in (kinds[2 * number % len(kinds)], kinds[(2 * number + 1) % len(kinds)]):
            Calls(twins, found, method, route).logged_in_by(what, header)
    found.none()


@pytest.mark.everyday
@pytest.mark.parametrize("what, key", [("runs", "attributes.start_time"), ("registered-models", "name")])
def test_a_search_goes_on_where_it_ended(twins, what, key):
    """Page by page, in the order that was asked for, upwards and downwards."""
    names = [f"page-{twins.ours.things.again}-{number}" for number in range(5)]

    def make(side):
        for number, name in enumerate(names):
            made = {"experiment_id": side.things.experiment, "run_name": name, "start_time": 1000 + number}
            side.people.owner.must("POST", f"{API}/{what}/create", **(made if what == "runs" else {"name": name}))

    def pages(side, order):
        fields = {"order_by": [f"{key} {order}"], "max_results": 2, "filter": f"name LIKE 'page-{side.things.again}%'"}
        if what == "runs":
            fields |= {"experiment_ids": [side.things.experiment], "filter": "attributes.start_time >= 1000"}
        found = []
        while len(found) < 9:
            answer = side.people.reader.call("POST" if what == "runs" else "GET", f"{API}/{what}/search", fields)
            assert answer.status == 200, str(answer)
            rows = answer.json.get("runs") or answer.json.get("registered_models") or []
            found.append([row.get("name") or row["info"]["run_name"] for row in rows])
            if not answer.json.get("next_page_token"):
                return found
            fields["page_token"] = answer.json["next_page_token"]
        return found

    twins.both(make)
    for order in ("ASC", "DESC"):
        ours, plain = twins.both(lambda side, order=order: pages(side, order))
        assert ours == plain
        wanted = names if order == "ASC" else names[::-1]
        assert [name for page in ours for name in page if name in names] == wanted


@pytest.mark.everyday
@pytest.mark.parametrize("ids", [1, 400, 1500])
def test_a_search_by_get_may_name_hundreds(twins, ids):
    """1,500 runs by their ids are 62 KiB of an address."""
    found = Found()

    def make(side):
        others = [f"{number:032x}" for number in range(ids - 1)]
        names = ", ".join(f"'{run}'" for run in (*others, side.things.run))
        return "GET", f"{API}/model-versions/search", {"filter": f"run_id IN ({names})", "max_results": 5}, {}

    for caller in ("stranger", "reader", "owner"):
        answers = twins.ask(make, caller)
        found.look(caller, "GET", "/model-versions/search", answers)
        assert answers[0].status == (401 if caller == "stranger" else 200), answers[0].body
    found.none()


@pytest.mark.parametrize("one_of", [pytest.param(20, marks=pytest.mark.everyday, id="one of 20"), pytest.param(1, id="all")])
def test_what_is_wrong_is_answered_as_by_mlflow(twins, known, one_of):
    """An administrator whose calls lack something, or have something that is none."""
    found, choice = Found(), random.Random(one_of)
    if one_of == 1:
        tally["run of all that is wrong"] = 1
    twins.new_things()
    for method, route in routes_of(known, False):
        fields, begun, before = known.fields.get(f"{method} {route}", {}), time.monotonic(), tally["calls on both"]
        Calls(twins, found, method, route).wrong(fields, lambda: choice.randrange(one_of) == 0)
        print(f"{method} {route}: {tally['calls on both'] - before} calls in {time.monotonic() - begun:.0f} s", flush=True)
        if route.endswith("/users/update-password"):
            twins.both(give_the_owner_his_password_back)
    found.none()


def give_the_owner_his_password_back(side):
    owner = side.people.owner
    side.chief.must("PATCH", f"{API}/users/update-password", username=owner.username, password=owner.password)
    side.learned(side.known)


@pytest.mark.everyday
def test_each_difference_that_is_meant_is_met():
    """A reason that nothing needs any more is removed."""
    if not tally["routes"]:
        pytest.skip("the calls were not made in this run")
    assert [one.why for one in MEANT if not used[one.why] and (tally["run of all that is wrong"] or not one.is_rare)] == []
