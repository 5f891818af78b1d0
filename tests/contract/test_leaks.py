# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The search that every scenario ends with finds a secret wherever it is, says so, and says when it can't see."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import urllib.parse

import pytest
from repository import ROOT

PROGRAM = ROOT / "molecule" / "shared" / "leaks.py"
SECRET = "pa'ss \"wörd\"/+:%@ of-a-test"
# In words of its own, and not by the search's.
WRITTEN = {
    "as it is": SECRET,
    "in JSON": json.dumps({"password": SECRET}),
    "in YAML": "password: '" + SECRET.replace("'", "''") + "'",
    "in a URL": f"postgresql://mlflow:{urllib.parse.quote(SECRET, safe='')}@db/mlflow",
    "in a form": urllib.parse.urlencode({"password": SECRET}),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "with a user in base64": base64.b64encode(f"admin:{SECRET}".encode()).decode(),
    "amid something in base64": base64.urlsafe_b64encode(f"xy{SECRET}zzz".encode()).decode(),
    "in digits": SECRET.encode().hex(),
    "as SHA-256": hashlib.sha256(SECRET.encode()).hexdigest(),
    "as SHA-1 in base64": base64.b64encode(hashlib.sha1(SECRET.encode()).digest()).decode(),
}


@pytest.fixture
def leaks():
    spec = importlib.util.spec_from_file_location("leaks", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(monkeypatch, capsys, leaks, **asked):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"words": {"the password": SECRET}, **asked})))
    code = leaks.main()
    said = capsys.readouterr().out
    assert SECRET not in said
    return code, said


@pytest.mark.parametrize("where", ["beginning", "middle", "end"])
@pytest.mark.parametrize("how", WRITTEN)
def test_each_way_of_writing_it_is_found_anywhere_in_an_output(monkeypatch, capsys, leaks, tmp_path, how, where):
    filler, text = b"something else\n" * 200_000, WRITTEN[how].encode()
    output = tmp_path / "output"
    output.write_bytes({"beginning": text + filler, "middle": filler + text + filler, "end": filler + text}[where])
    code, said = ask(monkeypatch, capsys, leaks, files=[str(output)])
    assert code == 1 and f"in {output}" in said and "found the password " in said and "blind" not in said


def test_an_output_without_it_is_clean(monkeypatch, capsys, leaks, tmp_path):
    (tmp_path / "output").write_text("nothing of that kind\n")
    code, said = ask(monkeypatch, capsys, leaks, files=[str(tmp_path)])
    assert code == 0, said


@pytest.mark.parametrize("number", [0, 1500, 3000])
def test_it_is_found_in_the_first_and_in_the_last_of_many_files_that_others_may_read(
    monkeypatch, capsys, leaks, tmp_path, number
):
    for each in range(3001):
        (tmp_path / f"{each:05d}").write_text(SECRET if each == number else "nothing")
    search = leaks.Search({"the password": SECRET})
    leaks.readable(search, [str(tmp_path)])
    assert [line.rsplit("/", 1)[1] for line in set(search.found)] == [f"{number:05d}"] and not search.missed()


def test_a_file_for_its_owner_alone_may_have_it_where_it_belongs_and_nowhere_else(monkeypatch, leaks, tmp_path):
    file = tmp_path / "kept"
    file.write_text(SECRET)
    file.chmod(0o600)
    for left_behind, found in (((), []), ((str(tmp_path),), [str(file)])):
        monkeypatch.setattr(leaks, "LEFT_BEHIND", left_behind)
        search = leaks.Search({"the password": SECRET})
        leaks.readable(search, [str(tmp_path)])
        assert sorted({line.split(" in ")[-1] for line in search.found}) == found and not search.missed()


@pytest.mark.parametrize("line", [1, 200_000, 400_000])
def test_it_is_found_in_the_first_and_in_the_last_line_of_a_journal(monkeypatch, leaks, tmp_path, line):
    journal = tmp_path / "journal"
    with journal.open("w") as file:
        file.writelines(f"{SECRET if number == line else 'a line of a journal'}\n" for number in range(1, 400_001))
    planted = tmp_path / "planted"
    planted.touch()
    run = subprocess.run

    def write(command, **options):
        return run(["tee", str(planted)] if command[0] == "systemd-cat" else ["true"], stdout=subprocess.DEVNULL, **options)

    monkeypatch.setattr(leaks.subprocess, "run", write)
    search = leaks.Search({"the password": SECRET})
    leaks.journal(search, command=("cat", str(journal), str(planted)))
    assert len(set(search.found)) == 1 and not search.missed()


def test_a_journal_that_can_not_be_read_is_told(monkeypatch, leaks):
    monkeypatch.setattr(leaks.subprocess, "run", lambda *a, **k: None)
    with pytest.raises(SystemExit, match="ended with code 1"):
        leaks.journal(leaks.Search({"the password": SECRET}), command=("false",))


@pytest.mark.parametrize("place", ["cmdline", "environ"])
def test_it_is_found_in_arguments_and_environments(leaks, place):
    program = [sys.executable, "-c", "print(flush=True); import sys; sys.stdin.read()"]
    ways = {"cmdline": {"args": [*program, f"--password={SECRET}"]}, "environ": {"args": program, "env": {"PGPASSWORD": SECRET}}}
    with subprocess.Popen(**ways[place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        search = leaks.Search({"the password": SECRET})
        leaks.processes(search)
        process.stdin.close()
    assert {line.split(" in ")[-1] for line in search.found} == {f"/proc/{process.pid}/{place}"} and not search.missed()


class Bucket:
    """As much of S3 as the search asks for, in two pages."""

    def __init__(self, objects):
        self.objects = dict(objects)

    def put_object(self, Bucket, Key, Body):  # noqa: N803
        self.objects[Key] = Body

    def delete_object(self, Bucket, Key):  # noqa: N803
        del self.objects[Key]

    def get_object(self, Bucket, Key):  # noqa: N803
        return {"Body": io.BytesIO(self.objects[Key])}

    def get_paginator(self, _operation):
        return self

    def paginate(self, Bucket):  # noqa: N803
        keys = [{"Key": key} for key in sorted(self.objects)]
        return [{"Contents": keys[:2]}, {"Contents": keys[2:]}, {}]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_it_is_found_in_any_object_of_a_bucket(monkeypatch, leaks, number):
    objects = {f"{each}/artifact": SECRET.encode() if each == number else b"" for each in range(5)}
    s3 = Bucket(objects)
    monkeypatch.setitem(sys.modules, "boto3", type("boto3", (), {"client": staticmethod(lambda *a, **k: s3)}))
    search = leaks.Search({"the password": SECRET})
    leaks.bucket(search, {"name": "b"})
    assert set(search.found) == {f"the password as it is in s3://b/{number}/artifact"} and not search.missed()
    assert s3.objects == objects


def blind_at_the_end(leaks, monkeypatch):
    regular = leaks.regular
    monkeypatch.setattr(leaks, "regular", lambda tops: list(regular(tops))[:-1])


def blind_in_what_follows(leaks, monkeypatch):
    monkeypatch.setattr(leaks.Search, "read", lambda self, place, file: self.look(place, file.read(leaks.PIECE)))


def blind_for_hashes(leaks, monkeypatch):
    look = leaks.Search.look
    monkeypatch.setattr(leaks.Search, "look", lambda self, place, content: look(self, place, content.replace(b"a", b"-")))


@pytest.mark.parametrize("way", [blind_at_the_end, blind_in_what_follows, blind_for_hashes])
def test_a_search_that_does_not_see_everything_says_so(monkeypatch, capsys, leaks, tmp_path, way):
    way(leaks, monkeypatch)
    monkeypatch.setattr(leaks, "processes", lambda search: None)
    monkeypatch.setattr(leaks, "journal", lambda search: None)
    code, said = ask(monkeypatch, capsys, leaks, host=True, tops=[str(tmp_path)])
    assert code == leaks.BLIND and "blind: what was planted in the " in said


@pytest.mark.parametrize("asked", [{}, {"words": {}}, {"words": {"the password": "short"}}])
def test_nonsense_is_refused(monkeypatch, capsys, leaks, tmp_path, asked):
    code, _said = ask(monkeypatch, capsys, leaks, **asked)
    assert code == 2


def test_a_file_that_is_not_there_is_no_clean_one(tmp_path):
    asked = json.dumps({"words": {"the password": SECRET}, "files": [str(tmp_path / "output")]})
    done = subprocess.run([sys.executable, str(PROGRAM)], input=asked, capture_output=True, text=True)
    assert done.returncode != 0 and "FileNotFoundError" in done.stderr and "secrets in" not in done.stdout
    assert SECRET not in done.stdout + done.stderr
