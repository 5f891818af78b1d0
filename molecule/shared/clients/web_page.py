# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The web page in Chromium, as a person who was given the CA's certificate and a login uses it.

    web_page.py ADDRESS CERTIFICATE FOLDER <JSON

JSON is {"username": …, "password": …, "left": …}, where left is what python_client.py printed. Pictures of what was seen are
put into FOLDER.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests"))

from browser import Browser  # noqa: E402

NAME = "mlflow.example.com"
URL = f"https://{NAME}"


class Person(Browser):
    """A browser that finds the server by its name, trusts the system's CAs and what `trusted` says, and notes what goes wrong."""

    def __init__(self, address: str, folder: Path, trusted: str = ""):
        home = Path(tempfile.mkdtemp(dir=folder))
        if trusted:
            # As a person does it in the settings: this CA, for servers.
            store = f"sql:{home}/.pki/nssdb"
            (home / ".pki" / "nssdb").mkdir(parents=True)
            subprocess.run(["certutil", "-N", "-d", store, "--empty-password"], check=True)
            subprocess.run(["certutil", "-A", "-d", store, "-n", NAME, "-t", "C,,", "-i", trusted], check=True)
        environ = {**os.environ, "HOME": str(home)}
        environ.pop("XDG_DATA_HOME", None)
        flags = [f"--host-resolver-rules=MAP {NAME} {address}", "--window-size=1400,1000", "--lang=en"]
        super().__init__(home, *flags, environ=environ)
        self.folder = folder
        self.login: dict | None = None
        self.asked = 0
        self.open_requests: set[str] = set()
        self.others: set[str] = set()
        self.origins: dict[str, str] = {}
        self.requests: dict[str, dict] = {}
        self.problems: list[str] = []
        self.network_changed = False
        self.pictures = 0
        self.last = 0.0
        self.open()
        for domain in ("Runtime", "Log"):
            self.call(f"{domain}.enable")

    def event(self, method: str, about: dict) -> None:
        number = about.get("requestId", "")
        if method.startswith("Network."):
            self.last = time.monotonic()
        if method == "Network.requestWillBeSent":
            self.open_requests.add(number)
            request = about["request"]
            self.requests[number] = {"method": request["method"], "url": request["url"], "status": 0}
        elif method == "Network.requestWillBeSentExtraInfo":
            headers = {name.lower(): value for name, value in about["headers"].items()}
            # The login is among them and goes nowhere.
            self.origins[number] = headers.get("origin", "")
            if headers.get("sec-fetch-dest") == "sharedworker":
                # Its answer goes to another process of Chromium's.
                self.others.add(number)
        elif method == "Network.responseReceived":
            request = self.requests.setdefault(number, {"method": "?", "url": about["response"]["url"]})
            request["status"] = about["response"]["status"]
            if request["status"] >= 400:
                self.problems.append(f"{request['status']}: {request['method']} {request['url']}")
        elif method == "Network.loadingFinished":
            self.open_requests.discard(number)
        elif method == "Network.loadingFailed":
            self.open_requests.discard(number)
            self.network_changed |= about["errorText"] == "net::ERR_NETWORK_CHANGED"
            # What the page itself no longer wants is no failure.
            if not about.get("canceled"):
                self.problems.append(f"{about['errorText']}: {self.requests.get(number, {}).get('url')}")
        elif method == "Fetch.requestPaused":
            self.send("Fetch.continueRequest", requestId=number)
        elif method == "Fetch.authRequired":
            self.asked += 1
            answer = {"response": "CancelAuth"}
            if self.login and self.asked == 1:
                answer = {"response": "ProvideCredentials", **self.login}
            self.send("Fetch.continueWithAuth", requestId=number, authChallengeResponse=answer)
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            words = " ".join(str(part.get("value", part.get("description", ""))) for part in about["args"])
            # Chromium says so of sizes that settle one frame later; no request and no fault has to do with it.
            if "ResizeObserver loop" not in words:
                self.problems.append(f"console: {words[:500]}")
        elif method == "Runtime.exceptionThrown":
            self.problems.append(f"exception: {json.dumps(about['exceptionDetails'])[:500]}")
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.problems.append(f"log: {about['entry']['text'][:500]} {about['entry'].get('url', '')}")

    def visit(self, path: str, anew: bool = False) -> str:
        """Go to a page; what Chromium says if it does not get there."""
        if anew:
            # Else only what follows the # would change, and nothing be loaded but what the page asks for.
            self.call("Page.navigate", url="about:blank")
        return self.call("Page.navigate", url=URL + path).get("errorText", "")

    def settle(self, seconds: float = 60) -> None:
        """Wait until all that the page asked for has come and it has asked for nothing more for a while."""
        begin = self.last = time.monotonic()
        while self.open_requests - self.others or time.monotonic() - self.last < 1.5:
            if time.monotonic() - begin > seconds:
                waiting = [self.requests[number]["url"] for number in self.open_requests - self.others]
                raise SystemExit(f"after {seconds} s the page still waits for {waiting}")
            self.read(0.2)

    def see(self, title: str, *words: str) -> None:
        """The page shows these words, and nothing goes wrong on it; a picture of it is kept."""
        try:
            for word in words:
                self.wait_for(word, 60)
            self.settle()
            if self.problems:
                raise SystemExit(f"{title}: " + "\n".join(self.problems))
        finally:
            self.pictures += 1
            picture = self.call("Page.captureScreenshot", format="png")["data"]
            file = self.folder / f"{self.pictures}-{title.replace(' ', '-')}.png"
            file.write_bytes(base64.b64decode(picture))

    def click(self, selector: str) -> None:
        """Click on what the selector finds as soon as it is there."""
        script = f"(it => {{ if (it) it.click(); return !!it }})(document.querySelector({json.dumps(selector)}))"
        begin = time.monotonic()
        while not self.evaluate(script):
            if time.monotonic() - begin > 60:
                raise SystemExit(f"there is no {selector} to click on; the page shows: {self.text()[:1000]}")
            self.read(0.1)


def stranger(address: str, folder: Path) -> None:
    """Without the certificate Chromium does not go there."""
    with Person(address, folder) as person:
        said = person.visit("/")
        if said != "net::ERR_CERT_AUTHORITY_INVALID":
            raise SystemExit(f"a browser that does not know the certificate said {said!r}")


def tour(person: Person, given: dict) -> dict:
    """Log in, look at what MLflow's own client has made, and write something."""
    left = given["left"]
    experiment, run_id, model = left["experiment"], left["run"], left["model"]
    person.call("Fetch.enable", patterns=[{"urlPattern": "*"}], handleAuthRequests=True)
    person.visit("/")
    person.settle()
    if person.asked != 1 or left["name"] in person.text() or "401" not in " ".join(person.problems):
        raise SystemExit(f"without a login there is: {person.text()[:500]} {person.problems}")
    person.problems.clear()

    person.login, person.asked = {"username": given["username"], "password": given["password"]}, 0
    said = person.visit("/#/experiments", anew=True)
    if said:
        raise SystemExit(f"logged in, the browser said {said}")
    person.see("experiments", left["name"])
    if person.asked != 1:
        raise SystemExit(f"the login was asked for {person.asked} times")
    if left["deleted"] in person.text():
        raise SystemExit("a deleted experiment is in the list")
    # From here on Chromium remembers the login by itself.
    person.call("Fetch.disable")

    person.click(f"a[href*='/experiments/{experiment}']")
    person.visit(f"/#/experiments/{experiment}/runs")
    person.see("runs", "one of many points", "parent")
    person.visit(f"/#/experiments/{experiment}/runs/{run_id}")
    person.see("run", "one of many points", run_id, "loss", "0.0002", "houses", "layer/1")
    person.visit(f"/#/experiments/{experiment}/runs/{run_id}/model-metrics")
    # The axis of the chart, so the history has come.
    person.see("metrics", "loss", "4000")
    person.visit(f"/#/experiments/{experiment}/runs/{run_id}/artifacts/notes/words.txt")
    person.see("artifacts", "words.txt", "kept in the bucket")
    person.visit(f"/#/experiments/{experiment}/traces")
    person.see("traces", "größe?")
    person.visit(f"/#/experiments/{experiment}/traces?selectedEvaluationId={left['trace']}")
    person.see("trace", "answer a question", "look_up")
    person.visit("/#/models")
    person.see("models", model)
    person.visit(f"/#/models/{model}")
    person.see("model", model, "Version 2", "champion")

    posts = [
        number
        for number, request in person.requests.items()
        if request["method"] == "POST" and request["url"].startswith(f"{URL}/ajax-api/") and request["status"] == 200
    ]
    if not [number for number in posts if person.origins.get(number) == URL]:
        raise SystemExit("the page has posted nothing as the server's own page")
    # What somebody writes in the page is kept.
    words = f"written in the page {time.time_ns()}"
    body = json.dumps({"run_id": run_id, "key": "mlflow.note.content", "value": words})
    status = person.evaluate(
        "fetch('/ajax-api/2.0/mlflow/runs/set-tag', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        f" body: {json.dumps(body)}}}).then(answer => answer.text().then(() => answer.status), error => String(error))"
    )
    if status != 200:
        raise SystemExit(f"what the page wrote was answered with {status}; {person.problems}")
    person.visit(f"/#/experiments/{experiment}/runs/{run_id}", anew=True)
    person.see("description", words)
    return {"requests": len(person.requests), "posts": len(posts)}


def main() -> None:
    address, certificate, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    given = json.load(sys.stdin)
    stranger(address, folder)
    for left in (2, 1, 0):
        with Person(address, folder, certificate) as person:
            try:
                print(json.dumps(tour(person, given)))
                return
            except SystemExit as error:
                # Chromium breaks off all it has under way when an interface of this machine comes or goes, as those of
                # another scenario's machines do.
                if not left or not person.network_changed:
                    raise
                print(f"once more, as the network of this machine has changed: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
