# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The main pages of MLflow's web page in a browser, on both servers: what fails, and what the console says, is the same."""

from __future__ import annotations

import json
import re
import shutil
import time
from urllib.parse import urlsplit

import pytest
from browser import Browser
from clients import basic
from compare import tally

# Where a person goes, by the routes of the page itself.
PAGES = (
    "", "experiments", *(f"experiments/{{experiment}}/{tab}" for tab in (
        "overview/usage", "runs", "models", "traces", "traces/{trace}", "datasets", "judges", "prompts", "models/{logged_model}",
        "runs/{run}", "runs/{run}/artifacts",
    )),
    'compare-experiments/s?experiments=["{experiment}"]', "models", "models/{model}", "models/{model}/versions/1", "prompts",
    "mcp-registry", "settings/general", "account", "admin",
)  # fmt: skip
TELEMETRY = re.compile(r"collects usage data|[Ii]nformation about UI telemetry")
# Until nothing was asked for so long, in seconds; and how long a page may take for that.
QUIET, LONGEST = 0.7, 10


class Watcher(Browser):
    """What was asked and how it ended, and what the console said."""

    def __init__(self, *arguments, **options):
        self.forget()
        super().__init__(*arguments, **options)

    def forget(self):
        self.asked, self.said, self.last = {}, [], time.monotonic()

    def event(self, method, about):
        if method.startswith(("Network.", "Page.loadEventFired")):
            self.last = time.monotonic()
        if method == "Network.requestWillBeSent":
            self.asked[about["requestId"]] = [about["request"]["method"], about["request"]["url"], None]
        elif method == "Network.responseReceived" and about["requestId"] in self.asked:
            self.asked[about["requestId"]][2] = about["response"]["status"]
        elif method == "Network.loadingFailed" and about["requestId"] in self.asked:
            self.asked[about["requestId"]][2] = 0 if about.get("canceled") else about["errorText"]
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error" and about["entry"]["source"] != "network":
            self.said.append(about["entry"]["text"].splitlines()[0])
        elif method == "Runtime.exceptionThrown":
            self.said.append(about["exceptionDetails"].get("exception", {}).get("description", "an exception").splitlines()[0])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            self.said.append(" ".join(str(one.get("value", one.get("description", ""))) for one in about["args"]).splitlines()[0])

    def begin(self, url):
        """Open the application; what happens while it loads is seen, too."""
        self.forget()
        self.call("Page.navigate", url=url)
        self.wait_for("Experiments", LONGEST)
        self._wait()

    def look(self, page):
        """Go to another page as who follows a link; no file is loaded twice."""
        self.forget()
        self.evaluate(f"location.hash = {json.dumps(f'#/{page}')}")
        self._wait()

    def _wait(self):
        end = time.monotonic() + LONGEST
        while time.monotonic() < end and (time.monotonic() - self.last < QUIET or self._is_waiting()):
            self.read(0.1)

    def _is_waiting(self):
        return any(status is None and not url.startswith(("data:", "blob:")) for _method, url, status in self.asked.values())


def seen(side, browser, base):
    """Which requests have failed, and what the console said."""
    failed, asked = set(), set()
    for method, url, status in browser.asked.values():
        # The page's own pictures of how to begin are on MLflow's site, which nobody reaches from here.
        if not url.startswith(base):
            continue
        where = side.plainly(re.sub(r"\?.*", "", url.removeprefix(base)))
        # Of what is not there, as meant.py has it.
        status = 404 if status == 500 and side.name == "plain" and where.endswith("/get-artifact") else status
        asked.add(f"{method} {where}")
        if status is not None and (isinstance(status, str) or status >= 400):
            failed.add(f"{method} {where}: {status}")
    text = side.plainly(browser.text()).replace(base, "")
    said = {side.plainly(line).replace(base, "") for line in browser.said}
    return {"failed": sorted(failed), "asked": sorted(asked), "said": sorted(said), "text": text}


@pytest.mark.everyday
def test_each_page_does_the_same(twins, tmp_path):
    if not any(map(shutil.which, ("chromium", "chromium-headless-shell"))):
        pytest.skip("there is no Chromium")
    twins.new_things()
    found = {}
    bases = f"https://{twins.ours.admin.address}", f"http://{twins.plain.admin.address}"
    for side, base in zip(twins.sides, bases, strict=True):
        things, admin = side.things, side.admin
        about = {name: getattr(things, name) for name in ("experiment", "run", "trace", "model", "logged_model")}
        # Nothing else is looked up.
        rules = f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {urlsplit(base).hostname}"
        with Watcher(tmp_path, "--ignore-certificate-errors", rules) as browser:
            browser.open()
            browser.call("Runtime.enable")
            browser.call("Log.enable")
            browser.call("Network.setExtraHTTPHeaders", headers={"Authorization": basic(admin.username, admin.password)})
            browser.begin(f"{base}/")
            found.setdefault("(while it loads)", []).append(seen(side, browser, base))
            for page in PAGES:
                browser.look(page.format(**about))
                found.setdefault(page, []).append(seen(side, browser, base))
    wrong = []
    for page, (ours, plain) in found.items():
        tally["pages"] += 1
        for what in ("failed", "said"):
            here, there = ({*one[what]} - {*other[what]} for one, other in ((ours, plain), (plain, ours)))
            if what == "failed":
                # What the page has not come to ask for yet has not failed.
                there = {line for line in there if line.rpartition(":")[0] in ours["asked"]}
            if here or there:
                wrong.append(f"#/{page}, {what}: only here {sorted(here)}, only there {sorted(there)}")
        if bool(ours["text"].strip()) != bool(plain["text"].strip()):
            wrong.append(f"#/{page} shows {ours['text'][:100]!r} and not {plain['text'][:100]!r}")
        # What is switched off is not announced; that there is a switch for it is said among the settings.
        wrong += [f"#/{page}: {line}" for line in ours["text"].splitlines() if TELEMETRY.search(line)]
    # The search would find it.
    assert any(TELEMETRY.search(plain["text"]) for _ours, plain in found.values())
    assert wrong == [], "\n".join([f"{len(wrong)} of {len(PAGES)} pages", *wrong])
