# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What the server does with requests that no client of MLflow's would send: schemathesis makes them from the OpenAPI document that
_openapi.py prints, for some minutes, through nginx and TLS, with an administrator's login, an ordinary user's, none, and such
that are no logins.

The server may refuse. It must not answer 5xx but where that is documented (501: not implemented, 503: not now), write a
traceback, lose a worker, or keep others waiting. When all is deployed the machines are cut off from everything but the local
cloud, since some operations have the server ask other addresses. Started by bench/run, which prepares the environment.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import itertools
import json
import os
import random
import re
import secrets
import shutil
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import requests
import schemathesis
import urllib3
from _cloud import RESULTS, ROOT, Cloud, write
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

OURS, BASE = "fuzz-ours", "fuzz-db"
ALLOWED = {501, 503}
# What MLflow itself answers so, by operation and a part of the answer, and why it is left to it.
MLFLOWS_OWN = [
    # INVALID_STATE is mostly bad data in the database; here an experiment that is deleted already is written to.
    ("POST", "/mlflow/experiments/update", "INVALID_STATE"),
    # A trace whose spans are in the artifact store, or nowhere: it has no other code for that.
    ("GET", "/mlflow/traces/get", "Trace data not stored in tracking store"),
    ("GET", "/mlflow/traces/batchGet", "Trace data not stored in tracking store"),
]
# How long one answer may take; nginx gives up after 300 s.
PATIENCE_SECONDS = 60
# An operation that took so long is not asked again: there are others to look at.
LONG_SECONDS = 10
# Requests of one operation, one login and one way of making them; then comes the next operation.
BATCH = 4
EXAMPLE_LENGTH = 400
# Addresses that the server may be told to ask: nobody has them.
NOWHERE = [
    "https://192.0.2.1/", "http://127.0.0.1:1/", "s3://nowhere/x", "mlflow-artifacts:/fuzz", "runs:/", "file:///etc/passwd", "",
]  # fmt: skip
METHODS = ("get", "post", "put", "patch", "delete")


class Fuzzed(Cloud):
    def __init__(self, folder: Path):
        super().__init__("fuzz", folder, [OURS], BASE)

    def cut_off(self) -> None:
        """Let the machines reach the local cloud and each other, and nothing else."""
        ec2 = self.aws("ec2")
        group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"molecule-{self.scenario}"]}])
        found = group["SecurityGroups"][0]
        own = [{"CidrIp": self.config.default_vpc_cidr}, {"CidrIp": f"{self.config.api_address}/32"}]
        if found["IpPermissionsEgress"]:
            ec2.revoke_security_group_egress(GroupId=found["GroupId"], IpPermissions=found["IpPermissionsEgress"])
        ec2.authorize_security_group_egress(
            GroupId=found["GroupId"], IpPermissions=[{"IpProtocol": "-1", "IpRanges": own}]
        )

    def document(self) -> dict:
        program = (ROOT / "bench" / "_openapi.py").read_text()
        output = self.ssh(OURS, f"cd /tmp; /opt/mlflow/current/bin/python - 2>/dev/null <<'PROGRAM'\n{program}\nPROGRAM\n")
        return json.loads(output.splitlines()[-1])

    def workers(self) -> list[int]:
        """The service's first process and those that it has started."""
        main = self.ssh(OURS, "systemctl show mlflow.service --property=MainPID --value")
        return [int(main), *sorted(map(int, self.ssh(OURS, f"pgrep --parent {main}").split()))]

    def tracebacks(self, since: float) -> Counter:
        """The last lines of the tracebacks in the journal, and how often each is there."""
        return last_lines(self.ssh(OURS, f"journalctl --unit=mlflow.service --since=@{since:.0f} --output=cat --no-pager"))


def last_lines(journal: str) -> Counter:
    found: Counter = Counter()
    inside = False
    for line in journal.splitlines():
        if line.startswith("Traceback (most recent call last):"):
            inside = True
        elif inside and re.match(r"[\w.]+(: |$)", line):
            # The same error about another thing is the same.
            found[re.sub(r"0x[0-9a-f]+|'[^']{12,}'|\d{4,}", "…", line)[:200]] += 1
            inside = False
    return found


@dataclass
class Who:
    """Whose requests these are."""

    name: str
    logins: list[str | None]
    password: str = ""
    count: int = 0

    def authorization(self) -> str | None:
        self.count += 1
        return self.logins[self.count % len(self.logins)]


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def people(admin_password: str) -> list[Who]:
    password = secrets.token_urlsafe(12)
    odd = ["Bearer x", "Basic", "Basic %%%", "Basic Og==", "Basic 6Tp4", 'Digest username="a"', f"Basic {'QQ' * 2000}=="]
    return [
        Who("user", [basic("fuzzer", password)], password),
        Who("administrator", [basic("admin", admin_password)]),
        Who("nobody", [None]),
        Who("odd login", odd),
    ]


@dataclass
class Counts:
    """What became of an operation's requests."""

    statuses: Counter = field(default_factory=Counter)
    # By status, or by what went wrong, and apart for what is no login: how often, and the first request.
    faults: dict = field(default_factory=dict)


class Client:
    def __init__(self, url: str):
        self.url = url
        self.session = requests.Session()
        self.session.verify = False
        # No proxy of this machine's, and no login of its user's.
        self.session.trust_env = False

    def ask(self, method: str, path: str, authorization: str | None, **options) -> requests.Response:
        headers = options.pop("headers", {})
        if authorization is not None:
            headers = {**headers, "Authorization": authorization}
        return self.session.request(
            method, self.url + path, headers=headers, timeout=PATIENCE_SECONDS, allow_redirects=False, **options
        )


class Bystander(threading.Thread):
    """Another client with a login of its own, that reads and writes while all this goes on."""

    def __init__(self, url: str, authorization: str):
        super().__init__(daemon=True)
        self.client, self.authorization = Client(url), authorization
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        made = self.client.ask(
            "POST", "/api/2.0/mlflow/experiments/create", self.authorization, json={"name": f"bystander-{time.time_ns()}"}
        )
        experiment = made.json()["experiment_id"]
        while not self.ended.wait(0.2):
            for method, path, options in (
                ("GET", f"/api/2.0/mlflow/experiments/get?experiment_id={experiment}", {}),
                ("POST", "/api/2.0/mlflow/runs/create", {"json": {"experiment_id": experiment}}),
            ):
                begin = time.monotonic()
                try:
                    status = self.client.ask(method, path, self.authorization, **options).status_code
                except requests.RequestException as error:
                    status = type(error).__name__
                self.seconds.append(time.monotonic() - begin)
                if status != 200:
                    self.failed.append(f"{method} {path}: {status}")


# --- what is there ---------------------------------------------------------------------------------------------------


def prepare(client: Client, users: list[Who]) -> dict[str, list]:
    """Things that requests can be about, of the user and of the administrator, by the names of the fields."""
    user, admin = (who.logins[0] for who in users[:2])

    def ask(path: str, login: str, **body) -> dict:
        answer = client.ask("POST", f"/api/{path}", login, json=body)
        if answer.status_code != 200:
            raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    for name in ("fuzzer", "bystander"):
        # They may be there, with --keep.
        client.ask("DELETE", "/api/2.0/mlflow/users/delete", admin, json={"username": name})
        ask("2.0/mlflow/users/create", admin, username=name, password=users[0].password)
    ids: dict[str, list] = {name: [] for name in ("experiment_id", "run_id", "model_id", "trace_id", "experiment", "model")}
    for login in (user, admin):
        name = f"fuzz-{secrets.token_hex(4)}"
        experiment = ask("2.0/mlflow/experiments/create", login, name=name)["experiment_id"]
        run = ask("2.0/mlflow/runs/create", login, experiment_id=experiment)["run"]["info"]["run_id"]
        ask("2.0/mlflow/runs/log-metric", login, run_id=run, key="m", value=1, timestamp=1)
        ask("2.0/mlflow/registered-models/create", login, name=name)
        ask("2.0/mlflow/model-versions/create", login, name=name, source=f"runs:/{run}/model", run_id=run)
        model = ask("2.0/mlflow/logged-models", login, experiment_id=experiment)["model"]["info"]["model_id"]
        trace = f"tr-{secrets.token_hex(16)}"
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        about = {"trace_id": trace, "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
        ask("3.0/mlflow/traces", login, trace={"trace_info": about})
        for list_name, value in zip(ids, (experiment, run, model, trace, name, name), strict=True):
            ids[list_name].append(value)
    return {
        "experiment_id": ids["experiment_id"],
        "run_id": ids["run_id"],
        "model_id": ids["model_id"],
        "trace_id": ids["trace_id"],
        "experiment_name": ids["experiment"],
        "name": ids["model"],
        "artifact_path": ["model", "model/MLmodel", "a/../b", "..", "%2e%2e/x", "/etc/passwd"],
        "version": ["1", "2", "latest"],
        # Never the administrator, who would be locked out by the first good guess.
        "username": ["fuzzer", "nobody"],
        "filter": ["", "name = 'x'", "metrics.m > 0", "tags.`a b` LIKE '%'", "attributes.status != 'x' AND"],
        "order_by": ["name", "metrics.m DESC", "attributes.start_time ASC", "x; y"],
        "page_token": ["", "e30=", "eyJvZmZzZXQiOiAtMX0="],
    }


ALIASES = {
    "run_uuid": "run_id", "run_ids": "run_id", "source_run_id": "run_id", "experiment_ids": "experiment_id",
    "request_id": "trace_id", "trace_ids": "trace_id", "request_ids": "trace_id", "model_ids": "model_id",
    "model_name": "name", "path": "artifact_path", "artifact_file_path": "artifact_path", "filter_string": "filter",
    "model_version": "version", "user": "username", "user_id": "username", "filename": "artifact_path",
}  # fmt: skip


def names_known(document: dict, known: dict[str, list]) -> dict:
    """The document with what there is for the fields that have such a name."""

    def values(name: str) -> list | None:
        if re.search(r"(^|_)(ur[il]|source|location|base_url|root)$", name):
            return NOWHERE
        return known.get(ALIASES.get(name, name))

    def change(schema: dict, found: list) -> dict:
        if schema.get("type") == "array":
            return {**schema, "items": change(schema.get("items", {}), found)}
        if schema.get("type") == "string" and "enum" not in schema:
            return {"type": "string", "enum": found}
        return schema

    def walk(node):
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {name: walk(item) for name, item in node.items()}
        if isinstance(node.get("properties"), dict):
            for name, schema in node["properties"].items():
                if isinstance(schema, dict) and (found := values(name)):
                    node["properties"][name] = change(schema, found)
        if "in" in node and isinstance(node.get("schema"), dict) and (found := values(node["name"])):
            node["schema"] = change(node["schema"], found)
        return node

    return walk(copy.deepcopy(document))


# --- the run ---------------------------------------------------------------------------------------------------------


class Over(Exception):
    """The time is up."""


class Fuzz:
    def __init__(self, client: Client, users: list[Who], until: float):
        self.client, self.users, self.until = client, users, until
        self.operations: dict[str, Counts] = {}
        self.by_user: dict[str, Counter] = {who.name: Counter() for who in users}
        self.slowest = (0.0, "")
        self.left_out: dict[str, str] = {}
        self.mlflows_own = 0
        self.unmade: Counter = Counter()
        self.strategies: dict = {}
        self.waited = 0.0

    def all(self, document: dict, known: dict[str, list]) -> None:
        """Every operation in turn, again and again, until the time is up."""
        documents = {"known": names_known(document, known), "any": document}
        operations: dict[str, dict] = {}
        for kind, made in documents.items():
            for result in schemathesis.openapi.from_dict(made).get_all_operations():
                operation = result.ok()
                operations.setdefault(operation.label, {})[kind] = operation
        self.operations = {label: Counts() for label in operations}
        # Good requests about what there is come most often: only they get far.
        ways = [
            ("known", GenerationMode.POSITIVE, 0), ("known", GenerationMode.POSITIVE, 1), ("known", GenerationMode.POSITIVE, 3),
            ("any", GenerationMode.POSITIVE, 0), ("known", GenerationMode.NEGATIVE, 1), ("known", GenerationMode.POSITIVE, 2),
            ("known", GenerationMode.POSITIVE, 1), ("known", GenerationMode.NEGATIVE, 0),
        ]  # fmt: skip
        with contextlib.suppress(Over):
            for turn, (kind, mode, who) in enumerate(itertools.cycle(ways)):
                # In another order each time, since the time may be up before a turn is.
                for label in random.Random(turn).sample(sorted(operations), len(operations)):
                    if label not in self.left_out:
                        self.some(label, operations[label][kind], kind, mode, self.users[who], turn)

    def some(self, label: str, operation, kind: str, mode, who: Who, turn: int) -> None:
        # To make one takes longer than the server takes to answer.
        strategy = self.strategies.get((label, kind, mode))
        if strategy is None:
            strategy = self.strategies[label, kind, mode] = operation.as_strategy(generation_mode=mode)

        @seed(turn)
        @settings(
            max_examples=BATCH, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @given(strategy)
        def one(case):
            if time.monotonic() > self.until:
                raise Over
            self.one(label, case, who)

        try:
            one()
        except Over:
            raise
        except Exception as error:
            # schemathesis can't make each request that an operation may have, such as wrong ones for one without input.
            self.unmade[f"{label}: {type(error).__name__}"] += 1

    def one(self, label: str, case, who: Who) -> None:
        request = case.as_transport_kwargs(base_url=self.client.url)
        path = request.pop("url").removeprefix(self.client.url)
        method, headers = request.pop("method"), dict(request.pop("headers"))
        login = who.authorization()
        begin = time.monotonic()
        try:
            answer = self.client.ask(method, path, login, headers=headers, **request)
            status, text = answer.status_code, answer.text[:EXAMPLE_LENGTH]
        except requests.exceptions.InvalidHeader:
            return
        except requests.RequestException as error:
            status, text = type(error).__name__, str(error)[:EXAMPLE_LENGTH]
        took = time.monotonic() - begin
        self.waited += took
        if took > self.slowest[0]:
            self.slowest = (took, f"{label} ({who.name}): {status}")
        if took > LONG_SECONDS:
            self.left_out.setdefault(label, f"{took:.0f} s for {method} {path} by {who.name}")
        counts = self.operations[label]
        counts.statuses[status] += 1
        self.by_user[who.name][status] += 1
        if is_mlflows_own(method, path, text):
            self.mlflows_own += 1
        elif isinstance(status, str) or status >= 500 and status not in ALLOWED:
            fault = counts.faults.setdefault(
                f"{status}, odd login" if who.name == "odd login" else f"{status}",
                {
                    "count": 0,
                    "who": who.name,
                    "request": f"{method} {path}"[:EXAMPLE_LENGTH],
                    "login": login[:40] if login and who.name == "odd login" else who.name,
                    "params": repr(request.get("params"))[:EXAMPLE_LENGTH],
                    "body": repr(request.get("json", request.get("data")))[:EXAMPLE_LENGTH],
                    "answer": text,
                },
            )
            fault["count"] += 1


def is_mlflows_own(method: str, path: str, answer: str) -> bool:
    return any(method == known and part in path and words in answer for known, part, words in MLFLOWS_OWN)


def family(label: str) -> str:
    """Operations that belong together, for the table."""
    parts = [part for part in re.sub(r"/(ajax-)?api/\d\.0", "", label.split(" ", 1)[1]).split("/") if part]
    return "/".join(parts[:2] if parts[:1] == ["mlflow"] else parts[:1]) or "/"


def table(operations: dict[str, Counts]) -> str:
    rows: dict[str, list[int]] = {}
    for label, counts in operations.items():
        row = rows.setdefault(family(label), [0] * 7)
        row[0] += 1
        row[1] += sum(counts.statuses.values())
        for status, number in counts.statuses.items():
            row[2 + min(status // 100 - 2, 3) if isinstance(status, int) else 5] += number
        row[6] += sum(fault["count"] for fault in counts.faults.values())
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines = [f"{'':<34}{'operations':>11}{'cases':>8}{'2xx':>8}{'3xx':>8}{'4xx':>8}{'5xx':>8}{'faults':>8}"]
    return "\n".join(lines + [f"{name:<34}{row[0]:>11}" + "".join(f"{n:>8}" for n in row[1:]) for name, row in rows.items()])


def told(operations: dict[str, Counts]) -> list[str]:
    """A line for each operation and status with a fault; what is no login is the same fault for all operations."""
    lines, odd = [], {}
    for label, counts in operations.items():
        for status, fault in counts.faults.items():
            answer = " ".join(re.sub(r"<[^>]*>", " ", fault["answer"]).split())[:200]
            if fault["who"] == "odd login":
                odd.setdefault((fault["login"], status), []).append(f"{label}: {answer}")
            else:
                lines.append(f"{label}: {fault['count']} times {status}, first for {fault['request']} by {fault['login']}, "
                             f"query {fault['params']}, body {fault['body']}: {answer}")  # fmt: skip
    return lines + [
        f"Authorization: {login}: {status} for {len(found)} operations, first {found[0]}"
        for (login, status), found in odd.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/run fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for how long; deploying comes before")
    parser.add_argument("--bound", type=float, default=5, help="seconds that another client's request may take meanwhile")
    parser.add_argument("--keep", action="store_true", help="leave the cloud up, and use it as it is the next time")
    arguments = parser.parse_args()
    os.environ["LOCALCLOUD_NAME"] = os.environ.get("LOCALCLOUD_NAME") or "bench-fuzz"
    # The certificate is the server's own; that it is trusted is not what is looked at.
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    folder = RESULTS / "fuzz"
    cloud = Fuzzed(folder)
    kept = folder / "kept"
    try:
        if arguments.keep and kept.exists() and cloud.localcloud("status", check=False):
            cloud.find()
        else:
            cloud.localcloud("reset")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            folder.chmod(0o700)
            print("local cloud, machines and server …", flush=True)
            cloud.localcloud("up")
            cloud.up()
            cloud.play("molecule/shared/converge.yml", *cloud.inventory)
            kept.touch()
        cloud.cut_off()
        document = cloud.document()
        users = people(f"admin-{(folder / 'secret').read_text().split()[0]}")
        client = Client(f"https://{cloud.addresses[OURS]}")
        known = prepare(client, users)
        before = cloud.workers()
        began = time.time()
        bystander = Bystander(client.url, basic("bystander", users[0].password))
        bystander.start()
        fuzz = Fuzz(client, users, time.monotonic() + arguments.seconds)
        number = sum(method in METHODS for operations in document["paths"].values() for method in operations)
        print(f"{number} operations, {arguments.seconds:.0f} s …", flush=True)
        fuzz.all(document, known)
        bystander.ended.set()
        bystander.join(PATIENCE_SECONDS + 5)
        # What was under way is told by then.
        time.sleep(2)
        after = cloud.workers()
        tracebacks = cloud.tracebacks(began)
    finally:
        if not arguments.keep:
            cloud.localcloud("reset", check=False)
            shutil.rmtree(folder, ignore_errors=True)

    print(f"\n{table(fuzz.operations)}")
    print("\n" + "\n".join(f"{name}: {dict(sorted(found.items(), key=str))}" for name, found in fuzz.by_user.items()))
    problems = told(fuzz.operations)
    problems += [f"traceback, {number} times: {line}" for line, number in tracebacks.most_common()]
    if before != after:
        problems.append(f"the processes were {before} and are {after}")
    longest = max(bystander.seconds, default=float("inf"))
    if longest > arguments.bound:
        problems.append(f"another client waited {longest:.1f} s for an answer")
    problems += [f"another client: {failed}" for failed in bystander.failed[:10]]
    print(f"\nAnother client meanwhile: {len(bystander.seconds)} requests, {len(bystander.failed)} failed, "
          f"the longest {longest:.2f} s. The slowest of all: {fuzz.slowest[0]:.1f} s, {fuzz.slowest[1]}. "
          f"Of the time {fuzz.waited:.0f} s were the server's, the others went into making requests.")  # fmt: skip
    print(f"Answers that are left to MLflow (MLFLOWS_OWN): {fuzz.mlflows_own}")
    for label, why in fuzz.left_out.items():
        print(f"Not asked again, since it took {why}: {label}")
    print(f"\n{len(problems)} faults" + "".join(f"\n- {problem}" for problem in problems))
    write("fuzz", {
        "seconds": arguments.seconds,
        "operations": {
            label: {"statuses": {str(key): value for key, value in counts.statuses.items()}, "faults": counts.faults}
            for label, counts in fuzz.operations.items()
        },
        "by_user": {name: {str(key): value for key, value in found.items()} for name, found in fuzz.by_user.items()},
        "tracebacks": dict(tracebacks),
        "workers": {"before": before, "after": after},
        "bystander": {"requests": len(bystander.seconds), "failed": bystander.failed, "longest_seconds": round(longest, 2)},
        "slowest": fuzz.slowest,
        "left_out": fuzz.left_out,
        "mlflows_own": fuzz.mlflows_own,
        "not_made": dict(fuzz.unmade),
        "problems": problems,
    })  # fmt: skip
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
