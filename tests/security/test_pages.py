# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""An artifact that is a page is a file to a browser: it runs nothing with the login of whoever opens it."""

from __future__ import annotations

import shutil
import time

import pytest
from attacks import holds, refused, works
from browser import Browser
from clients import AJAX, API, ARTIFACTS, basic

SCRIPT = """
document.title = 'it ran';
fetch('/ajax-api/2.0/mlflow/experiments/set-experiment-tag', {method: 'POST', credentials: 'include',
      headers: {'Content-Type': 'application/json'},
      body: JSON.stringify({experiment_id: 'EXPERIMENT', key: 'attacked', value: 'yes'})});
"""
PAGES = {
    "page.html": "<!doctype html><html><body>hello<script>SCRIPT</script></body></html>",
    "page.htm": "<html><body onload=\"SCRIPT\">hello</body></html>",
    "page.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body><script>SCRIPT</script></body></html>',
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg"><script>SCRIPT</script></svg>',
    "data.xml": '<x xmlns:h="http://www.w3.org/1999/xhtml"><h:script>SCRIPT</h:script></x>',
    "noending": "<html><script>SCRIPT</script></html>",
    "text.txt": "<html><script>SCRIPT</script></html>",
}


@pytest.fixture(scope="module")
def pages(people, world):
    for name, content in PAGES.items():
        script = SCRIPT.replace("EXPERIMENT", world.experiment).replace("\n", " ")
        if name == "page.htm":
            script = script.replace('"', "&quot;")
        if name.endswith((".xhtml", ".svg", ".xml")):
            script = script.replace("<", "&lt;")
        works(people.editor.put(f"{world.folder}/pages/{name}", content.replace("SCRIPT", script).encode()))
    source = f"{world.artifact_uri}/pages"
    made = people.owner.must("POST", f"{API}/model-versions/create", name=world.model, source=source, run_id=world.run)
    version = made["model_version"]["version"]
    return {
        "download": lambda name: f"{ARTIFACTS}/{world.experiment}/{world.run}/artifacts/pages/{name}",
        "the page's download": lambda name: f"/ajax-api{world.folder.removeprefix('/api')}/pages/{name}",
        "get-artifact": lambda name: f"/get-artifact?run_uuid={world.run}&path=pages/{name}",
        "a model's": lambda name: f"/model-versions/get-artifact?name={world.model}&version={version}&path={name}",
    }


@pytest.mark.parametrize("way", ["download", "the page's download", "get-artifact", "a model's"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_sent_as_a_file(people, pages, way, name):
    answer = works(people.reader.send("GET", pages[way](name)))
    assert b"attacked" in answer.body
    holds(answer.headers.get("content-disposition", "").startswith("attachment"), str(answer.headers))
    holds(answer.headers.get("x-content-type-options") == "nosniff", str(answer.headers))
    refused(people.neighbour.send("GET", pages[way](name)), 403)
    refused(people.stranger.send("GET", pages[way](name)), 401)


def test_a_browser_runs_nothing_of_it(people, world, pages, server, tmp_path):
    """Opened by an administrator who is logged in; the web page itself, opened the same way, does run."""
    if not any(map(shutil.which, ("chromium", "chromium-headless-shell"))):
        pytest.skip("there is no Chromium")
    admin = people.admin
    with Browser(tmp_path, "--ignore-certificate-errors") as browser:
        browser.open()
        headers = {"Authorization": basic(admin.username, admin.password)}
        browser.call("Network.setExtraHTTPHeaders", headers=headers)
        for way in pages:
            for name in PAGES:
                browser.call("Page.navigate", url=f"https://{admin.address}{pages[way](name)}")
                time.sleep(0.3)
                browser.read(0.1)
                holds(browser.evaluate("document.title") != "it ran", f"{name} ran by {way}")
        browser.call("Page.navigate", url=f"https://{admin.address}/")
        browser.wait_for("Experiments", 60)
        assert browser.evaluate("document.title") != ""
    found = works(admin.get(f"{AJAX}/experiments/get", experiment_id=world.experiment)).json["experiment"]
    holds("attacked" not in {tag["key"] for tag in found.get("tags", [])})
