# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""An artifact's name leads nowhere but to that artifact, however it is spelled."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from attacks import holds, refused, works
from clients import Answer

# From the neighbour's own folder to the owner's file; `up` is one level.
UPS = {
    "dots": "..", "coded dots": "%2e%2e", "one coded dot": ".%2e", "coded twice": "%252e%252e", "coded slash": "..%2f",
    "coded slash twice": "..%252f", "backslash": "..\\", "coded backslash": "..%5c", "both slashes": "..\\/",
    "overlong": "%c0%ae%c0%ae", "a NUL": "..%00", "a semicolon": "..;", "four dots": "....//", "a tab": "..%09",
    "unicode dots": "%e2%80%a5", "fullwidth": "%ef%bc%8e%ef%bc%8e",
}  # fmt: skip


@pytest.mark.parametrize("up", UPS)
def test_no_name_leads_out_of_a_folder(people, world, server, up):
    """To read, to list, to write and to remove, by both prefixes and through the web page's route."""
    user, steps = people.neighbour, "/".join([UPS[up]] * 3)
    victim = f"{world.experiment}/{world.run}/artifacts/notes.txt"
    with server.no_traceback():
        for prefix in ("/api", "/ajax-api"):
            base = f"{prefix}/2.0/mlflow-artifacts/artifacts"
            for begin in (f"{world.neighbours}/x/{steps}/", f"{steps}/", f"{world.neighbours}/{steps}"):
                path = f"{base}/{begin}{victim}"
                read = refused(user.send("GET", path), 400, 403, 404)
                holds(world.secret not in read.body, path)
                # A name that is odd and no more may be written, in his own folder.
                written = (200,) if begin.startswith(world.neighbours) else ()
                refused(user.send("PUT", path, body=b"replaced"), 400, 403, 404, *written)
                refused(user.send("DELETE", path), 400, 403, 404, *written)
            listed = user.send("GET", f"{base}?path={world.neighbours}/{steps}/{world.experiment}/{world.run}/artifacts")
            holds(b"notes.txt" not in listed.body and listed.status < 500, str(listed))
        for path in (f"{steps}/etc/passwd", "/etc/passwd", f"{steps}/{steps}/{world.neighbours}"):
            read = people.reader.send("GET", f"/get-artifact?run_uuid={world.run}&path={path}")
            holds(b"root:" not in read.body and world.secret not in read.body and read.status >= 400, str(read))
    assert works(people.reader.get(f"{world.folder}/notes.txt")).body == world.secret


def test_what_is_not_there_is_not_there(people, world, server):
    """404 by each way, and no word of where the server keeps its artifacts."""
    shown = f"/get-artifact?run_uuid={world.run}&path="
    with server.no_traceback():
        for path in (f"{world.folder}/nothing", f"{shown}nothing", f"{shown}..%00/x", f"{shown}folder/nothing"):
            answer = refused(people.reader.send("GET", path), 400, 404)
            holds(b"s3://" not in answer.body, str(answer))
    works(people.reader.get("/get-artifact", run_uuid=world.run, path="notes.txt"))


PLACES = [
    "//{victim}", "/{victim}", "//etc/passwd", "file:///etc/passwd", "s3://x/{victim}", "C:/x", "~root/x", "%00", "x%00{victim}",
    "?/{victim}", "%23/{victim}", "%3f{victim}", ".", "%0d%0aX-Injected:%20yes",
]  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_name_that_looks_like_a_place_is_none(people, world, server, name):
    victim = f"{world.experiment}/{world.run}/artifacts/notes.txt"
    base = "/api/2.0/mlflow-artifacts/artifacts"
    with server.no_traceback():
        for path in (f"{base}/{name.format(victim=victim)}", f"{base}/{world.neighbours}/{name.format(victim=victim)}"):
            for method in ("GET", "PUT", "DELETE"):
                answer = people.neighbour.send(method, path, body=b"replaced" if method == "PUT" else None)
                holds(world.secret not in answer.body and answer.status < 500, str(answer))
                assert "x-injected" not in answer.headers
    assert works(people.reader.get(f"{world.folder}/notes.txt")).body == world.secret


@pytest.mark.parametrize("length", [300, 1100, 7000, 100_000])
def test_a_very_long_name_is_refused_and_no_more(people, world, server, length):
    with server.no_traceback():
        for part in ("a" * length, "a/" * (length // 2) + "a", "%2e" * (length // 3), "ä" * (length // 2)):
            for method in ("GET", "PUT"):
                path = f"{world.folder}/{quote(part, safe='/%')}"
                try:
                    answer = people.editor.send(method, path, body=b"x" if method == "PUT" else None)
                except OSError:
                    # nginx says no before it has heard the end of it, and hangs up.
                    assert len(path) > 8000
                    answer = Answer(414)
                refused(answer, *([200] if length < 8000 else []), 400, 404, 414)
    works(people.editor.put(f"{world.folder}/{'a' * 200}", b"x"))


UNUSUAL = [
    "a file.txt", "größe.txt", "100%.txt", "a+b.txt", "a&b=c.txt", "a'b\"c.txt", "日本.txt",
    "a -> notes.txt", ".hidden", "...", "a..b",
    "a;b", "~", "notes.txt.lnk", "sub/folder/x", "%2e%2e", "a\\b",
]  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_name_is_only_a_name(people, world, name):
    """Written and read back by whoever may, and by nobody else; a name that looks like a link is no link."""
    content, path = f"content of {name}".encode(), f"{world.folder}/names/{quote(name)}"
    answer = people.editor.put(path, content)
    if name in ("%2e%2e", "a\\b", "..."):
        # MLflow does not take these.
        works(answer, 200, 400, 403)
    else:
        works(answer)
    if answer.status == 200:
        assert works(people.reader.get(path)).body == content
    refused(people.neighbour.get(path), 400, 403, 404)
    refused(people.stranger.get(path), 401)
    refused(people.reader.put(path, b"x"), 400, 403)
