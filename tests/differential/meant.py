# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Where the deployed server is to answer otherwise than a plain one, and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

used = Counter()


@dataclass(frozen=True)
class Meant:
    why: str
    #: Of "METHOD route".
    route: re.Pattern
    #: Told (ours, plain), whether this is the difference that is meant.
    is_it: object
    #: Met only where all that is wrong is asked, which no everyday run does.
    is_rare: bool = False

    def fits(self, method, route, ours, plain):
        return bool(self.route.fullmatch(f"{method} {route}") and self.is_it(ours, plain))


def is_told_to_be_a_mistake(ours, plain):
    code = ours.body.get("error_code") if isinstance(ours.body, dict) else None
    return plain.status == 500 and (ours.status, code) in ((400, "INVALID_PARAMETER_VALUE"), (400, "BAD_REQUEST"))


def is_told_not_to_be_there(ours, plain):
    code = ours.body.get("error_code") if isinstance(ours.body, dict) else None
    return plain.status == 500 and (ours.status, code) == (404, "RESOURCE_DOES_NOT_EXIST")


MEANT = [
    Meant(
        "what MLflow fails on is a mistake of the caller's, and clients repeat a 500 for minutes",
        re.compile(r".*"),
        is_told_to_be_a_mistake,
    ),
    Meant(
        "an artifact, or an upload of one, that is not there is no failure of the server's",
        re.compile(r".*(artifact|mpu).*"),
        is_told_not_to_be_there,
    ),
    Meant(
        "nginx takes no NUL in a path",
        re.compile(r".*<.*"),
        lambda ours, plain: ours.status == 400 and "<center>nginx</center>" in str(ours.body),
    ),
    Meant(
        "who is not logged in is told so in one way, whichever of MLflow's two frameworks has the route",
        re.compile(r".*"),
        lambda ours, plain: (ours.status, plain.status) == (401, 401) and ours.body == plain.body
        and (ours.kind, plain.kind) == ("text/html", "text/plain")
        and ours.headers["www-authenticate"] == plain.headers["www-authenticate"],
    ),
    Meant(
        "MLflow itself fails on a login by Digest",
        re.compile(r".*"),
        lambda ours, plain: (ours.status, plain.status) == (401, 500) and "'encode'" in str(plain.body),
    ),
    Meant(
        "the page does not tell that usage data are collected, since they are not",
        re.compile(r"GET /"),
        lambda ours, plain: (ours.status, plain.status) == (200, 200)
        and re.sub(r"<style>#root [^<]*telemetry-alert[^<]*</style></head>", "</head>", ours.body) == plain.body,
    ),
    Meant(
        "there is no assistant here, and nothing to choose for one",
        re.compile(r"GET /ajax-api/3\.0/mlflow/assistant/providers"),
        lambda ours, plain: (ours.status, plain.status) == (200, 200)
        and {*ours.body} == {*plain.body} and not any(ours.body.values()),
    ),
    Meant(
        "artifacts pass through the server: nobody is sent to the store for their parts",
        re.compile(r"GET /(ajax-)?api/3\.0/mlflow/server-info"),
        lambda ours, plain: (ours.status, plain.status) == (200, 200)
        and {*ours.body} == {*plain.body}
        and all(value == plain.body[name] or ("multipart" in name and value is False) for name, value in ours.body.items()),
    ),
    Meant(
        "a store takes 10,000 parts of an upload, and MLflow signs an address for each of as many as it is asked for",
        re.compile(r"POST /(ajax-)?api/2\.0/mlflow-artifacts/mpu/create/.*"),
        lambda ours, plain: (ours.status, plain.status) == (400, 200) and "must be 10000 or less" in str(ours.body),
        is_rare=True,
    ),
    Meant(
        "a source that is on the host itself is refused without telling where the server would look for it",
        re.compile(r"POST /(ajax-)?api/2\.0/mlflow/model-versions/create"),
        lambda ours, plain: (ours.status, plain.status) == (400, 400)
        and all("Invalid model version source" in str(answer.body) for answer in (ours, plain)),
        is_rare=True,
    ),
    Meant(
        "a failure of MLflow's own is told in the form of its other errors, and not as a page",
        re.compile(r".*"),
        lambda ours, plain: (ours.status, plain.status) == (500, 500)
        and (ours.kind, plain.kind) == ("application/json", "text/html"),
        is_rare=True,
    ),
]


def reason(method, route, ours, plain):
    """Why these two answers may differ; nothing where nobody has said so."""
    for one in MEANT:
        if one.fits(method, route, ours, plain):
            used[one.why] += 1
            return one.why
    return None
