# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import grp
import os
import pwd
import stat

import pytest
from plugin_support import plugin

OWNER = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


@pytest.fixture
def wanted(tmp_path):
    return {
        "absent": [str(tmp_path / "old")],
        "folders": [{"path": str(tmp_path / "etc"), "mode": "0750", **OWNER}],
        "links": [{"path": str(tmp_path / "current"), "target": str(tmp_path / "etc")}],
        "files": [{"path": str(tmp_path / "etc" / "a"), "content": "one\n", "mode": "0640", **OWNER}],
    }


def run(wanted, check_mode=False):
    host = plugin("modules", "host_files").HostFiles(check_mode)
    failure = host.ensure({"absent": [], "folders": [], "links": [], "files": [], **wanted})
    return host, failure


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_ladder(wanted, tmp_path):
    (tmp_path / "old").write_text("")

    planned, failure = run(wanted, check_mode=True)
    assert failure is None and len(planned.paths) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["old"]

    made, failure = run(wanted)
    assert failure is None and made.paths == planned.paths
    assert (tmp_path / "etc" / "a").read_text() == "one\n"
    assert mode(tmp_path / "etc") == 0o750 and mode(tmp_path / "etc" / "a") == 0o640
    assert os.readlink(tmp_path / "current") == str(tmp_path / "etc")
    assert not (tmp_path / "old").exists()

    again, failure = run(wanted)
    assert failure is None and again.paths == [] and again.diff == []

    wanted["files"][0]["content"] = "two\n"
    changed, failure = run(wanted)
    assert failure is None and changed.paths == [str(tmp_path / "etc" / "a")]
    assert (changed.diff[0]["before"], changed.diff[0]["after"]) == ("one\n", "two\n")
    assert os.listdir(tmp_path / "etc") == ["a"]


def test_mode_that_has_drifted(wanted, tmp_path):
    run(wanted)
    os.chmod(tmp_path / "etc" / "a", 0o644)
    host, _failure = run(wanted, check_mode=True)
    assert host.paths == [str(tmp_path / "etc" / "a")] and mode(tmp_path / "etc" / "a") == 0o644
    run(wanted)
    assert mode(tmp_path / "etc" / "a") == 0o640


def test_a_full_disk_leaves_the_old_file_whole(wanted, tmp_path, monkeypatch):
    run(wanted)
    wanted["files"][0]["content"] = "two\n"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plugin("modules", "host_files").os, "fsync", full)
    _host, failure = run(wanted)
    assert failure == (str(tmp_path / "etc" / "a"), "No space left on device")
    assert (tmp_path / "etc" / "a").read_text() == "one\n"
    assert os.listdir(tmp_path / "etc") == ["a"]


def test_an_unknown_owner_is_named(wanted):
    wanted["files"][0]["owner"] = "nobody-of-this-name"
    _host, failure = run(wanted)
    assert "nobody-of-this-name" in failure[1]


def test_empty_file(tmp_path):
    wanted = {"files": [{"path": str(tmp_path / "empty"), "content": "", "mode": "0644", **OWNER}]}
    assert run(wanted)[0].paths == [str(tmp_path / "empty")]
    assert run(wanted)[0].paths == []
