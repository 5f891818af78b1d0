# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import errno
import grp
import json
import os
import stat

import pytest
from ansible.module_utils.testing import patch_module_args
from plugin_support import plugin

OLD = "[mlflow]\nhost=db\nport=5432\ndbname=mlflow\nuser=mlflow_b\npassword=hidden-old\n"
NEW = "[mlflow]\nhost=db\nport=5432\ndbname=mlflow\nuser=mlflow_a\npassword=hidden=new\n# a=b\n"


class Server:
    """Whom the database lets in, and what it says of the roles."""

    def __init__(self):
        self.refuses = {}
        self.notes = {}
        self.asked = []
        self.path = None

    def login(self, params):
        self.asked.append((params["content"], self.path.read_text() if self.path.exists() else None))
        if params["content"] in self.refuses:
            return {"error": self.refuses[params["content"]]}
        user = plugin("modules", "mlflow_service_file").settings(params["content"])["user"]
        roles = {name: {"can_login": can, "note": note} for name, (can, note) in self.notes.items()}
        roles = {name: role for name, role in roles.items() if name in (user, params["former"])}
        return {"login": user, "acts_as": "mlflow_owner", "tls": True, "roles": roles}


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Server()
    server.path = tmp_path / "pg_service.conf"
    module = plugin("modules", "mlflow_service_file")
    monkeypatch.setattr(module.prove, "__defaults__", (server.login,))
    return server


@pytest.fixture
def run(server, capsys):
    def run(content=NEW, check_mode=False, **more):
        arguments = {
            "path": str(server.path),
            "content": content,
            "expect": "mlflow_a" if content == NEW else "mlflow_b",
            "group": grp.getgrgid(os.getgid()).gr_name,
            "_ansible_check_mode": check_mode,
            **more,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            plugin("modules", "mlflow_service_file").main()
        output = capsys.readouterr().out
        assert "hidden" not in output
        return json.loads(output)

    return run


def note(version, created):
    return plugin("module_utils", "_postgresql").NOTE + json.dumps({"version": version, "created": created})


def test_ladder(server, run):
    planned = run(OLD, check_mode=True)
    assert planned["changed"] and planned["written"] and not server.path.exists() and server.asked == []

    made = run(OLD)
    assert made["changed"] and made["written"] and made["login"] == "mlflow_b"
    assert server.path.read_text() == OLD and stat.S_IMODE(server.path.stat().st_mode) == 0o640
    assert not run(OLD)["changed"] and not run(OLD, check_mode=True)["changed"]
    # Nobody is asked for a file that stays.
    assert server.asked == [(OLD, None)]

    assert run(NEW, check_mode=True)["written"] and server.path.read_text() == OLD
    assert run(NEW)["login"] == "mlflow_a" and server.path.read_text() == NEW
    # With exactly what is to be written, while the file is what it was.
    assert server.asked[1:] == [(NEW, OLD)]

    server.path.chmod(0o600)
    mended = run(NEW, check_mode=True)
    assert mended["changed"] and not mended["written"] and stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert run(NEW)["changed"] and stat.S_IMODE(server.path.stat().st_mode) == 0o640
    assert len(server.asked) == 2 and os.listdir(server.path.parent) == ["pg_service.conf"]


@pytest.mark.parametrize("before", [None, OLD])
def test_a_login_that_does_not_work_replaces_nothing(server, run, before):
    if before:
        server.path.write_text(before)
    server.refuses[NEW] = 'FATAL: role "mlflow_a" is not permitted to log in'
    refused = run(NEW)
    assert refused["failed"] and "written" not in refused
    assert refused["msg"] == (
        'MLflow on this host can\'t log in to its database as mlflow_a: FATAL: role "mlflow_a" is not permitted to log in. '
        "What was read may have been rotated since: run this again."
    )
    assert os.listdir(server.path.parent) == (["pg_service.conf"] if before else [])
    assert not before or server.path.read_text() == before


def test_another_role_than_the_one_that_was_meant_replaces_nothing(server, run):
    server.path.write_text(OLD)
    refused = run(NEW, expect="mlflow_c")
    assert "logs in to its database as mlflow_a, and should as mlflow_c" in refused["msg"]
    refused = run(NEW, acts_as="somebody")
    assert "mlflow_a acts as mlflow_owner in the database, and should as somebody" in refused["msg"]
    assert server.path.read_text() == OLD


def test_a_later_login_that_works_is_not_replaced_by_an_earlier_one(server, run):
    """A rotation has swapped the file and is about to lock the role that is to be written."""
    server.path.write_text(OLD)
    server.notes = {"mlflow_a": (True, note("v1", 100.0)), "mlflow_b": (True, note("v2", 200.0))}
    refused = run(NEW)
    assert refused["failed"] and server.path.read_text() == OLD
    assert "as mlflow_b, which has the password of a later rotation (version v2 of" in refused["msg"]
    assert "than mlflow_a (version v1 of" in refused["msg"] and "run this again" in refused["msg"]


@pytest.mark.parametrize("why", ["locked", "another password", "earlier", "no rotation yet", "another database"])
def test_a_later_login_that_is_of_no_use_is_replaced(server, run, why):
    server.path.write_text(OLD.replace("host=db", "host=former") if why == "another database" else OLD)
    server.notes = {"mlflow_a": (True, note("v1", 100.0)), "mlflow_b": (True, note("v2", 200.0))}
    if why == "locked":
        server.notes["mlflow_b"] = (False, note("v2", 200.0))
    elif why == "another password":
        server.refuses[OLD] = "password authentication failed"
    elif why == "earlier":
        server.notes["mlflow_b"] = (True, note("v0", 50.0))
    elif why == "no rotation yet":
        server.notes = {"mlflow_a": (True, None), "mlflow_b": (True, "a comment of somebody else")}
    assert run(NEW)["written"] and server.path.read_text() == NEW


def test_a_full_disk_leaves_the_old_file_whole(server, run, monkeypatch):
    server.path.write_text(OLD)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused = run(NEW)
    assert refused["msg"] == f"Could not put {server.path} right: No space left on device."
    assert server.path.read_text() == OLD and os.listdir(server.path.parent) == ["pg_service.conf"]


def test_an_unknown_group_is_named(server, run):
    assert "no-such-group" in run(NEW, group="no-such-group")["msg"]
    assert os.listdir(server.path.parent) == []


def test_a_link_in_its_place_is_replaced_and_not_followed(server, run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(NEW)
    server.path.symlink_to(elsewhere)
    assert run(NEW)["written"] and not server.path.is_symlink() and elsewhere.read_text() == NEW


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert plugin("modules", "mlflow_service_file").read(tmp_path / "pipe") is None


def test_what_can_not_be_replaced_is_told_and_nothing_stays_beside_it(server, run, tmp_path):
    (tmp_path / "folder" / "in it").mkdir(parents=True)
    refused = run(NEW, path=str(tmp_path / "folder"))
    assert refused["failed"] and refused["msg"] == f"Could not put {tmp_path}/folder right: Is a directory."
    assert os.listdir(tmp_path) == ["folder"]
    refused = run(NEW, path=str(tmp_path / "none" / "pg_service.conf"))
    assert refused["msg"] == f"Could not put {tmp_path}/none/pg_service.conf right: No such file or directory."
    # A part of the path that is no folder is no missing file.
    (tmp_path / "file").write_text("")
    refused = run(NEW, path=str(tmp_path / "file" / "pg_service.conf"))
    assert refused["msg"].endswith("right: Not a directory.") and server.asked[2:] == []


def test_the_file_is_on_the_disk_before_it_is_in_its_place_and_the_folder_after(server, run, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace

    def noted(descriptor):
        state = os.fstat(descriptor)
        order.append("folder" if stat.S_ISDIR(state.st_mode) else f"file {stat.S_IMODE(state.st_mode):04o} {state.st_size}")
        fsync(descriptor)

    def moved(*names):
        order.append("move")
        replace(*names)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", moved)
    assert run(NEW)["written"]
    # Whole, and nobody else could read it a moment longer.
    assert order == [f"file 0640 {len(NEW)}", "move", "folder"]


def test_open_files_are_closed_again(server, run):
    run(OLD)
    before = len(os.listdir("/proc/self/fd"))
    for content in (NEW, OLD, OLD):
        run(content)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("whose", [(65534, -1), (-1, 65534)])
def test_a_file_of_another_user_is_taken_back(server, run, whose):
    run(NEW)
    os.chown(server.path, *whose)
    assert run(NEW, check_mode=True)["changed"] and 65534 in (server.path.stat().st_uid, server.path.stat().st_gid)
    mended = run(NEW)
    assert mended["changed"] and not mended["written"]
    assert (server.path.stat().st_uid, server.path.stat().st_gid) == (os.geteuid(), os.getgid())
    assert not run(NEW)["changed"]


@pytest.mark.parametrize("name", ["host", "port", "dbname"])
def test_a_later_login_of_another_database_is_replaced(server, run, name):
    """What it notes says nothing of this one."""
    server.path.write_text(OLD.replace(f"{name}=", f"{name}=1"))
    server.notes = {"mlflow_a": (True, note("v1", 100.0)), "mlflow_b": (True, note("v2", 200.0))}
    assert run(NEW)["written"] and server.path.read_text() == NEW
    assert len(server.asked) == 1


def test_the_login_that_stays_may_get_another_password(server, run):
    server.path.write_text(NEW.replace("hidden", "hidden-before"))
    server.notes = {"mlflow_a": (True, note("v1", 100.0))}
    assert run(NEW)["written"] and len(server.asked) == 1


def test_of_two_logins_of_one_moment_the_one_that_was_asked_for_is_taken(server, run):
    server.path.write_text(OLD)
    server.notes = {"mlflow_a": (True, note("v1", 100.0)), "mlflow_b": (True, note("v2", 100.0))}
    assert run(NEW)["written"]


@pytest.mark.parametrize("content", ["", "# user=nobody\nno setting\n"])
def test_a_file_without_settings_is_replaced(server, run, content):
    server.path.write_text(content)
    server.notes = {"mlflow_a": (True, note("v1", 100.0))}
    assert run(NEW)["written"] and server.path.read_text() == NEW


def test_settings():
    settings = plugin("modules", "mlflow_service_file").settings
    assert settings("[mlflow]\nuser=a\n# user=b\npassword=x=y=\nempty=\n") == {"user": "a", "password": "x=y=", "empty": ""}
    # Those of a read replica are not the database's.
    both = "# made\n[mlflow]\nhost=db\npassword=[x]\n\n[mlflow_read]\nhost=replica,db\nport=1\n"
    assert settings(both) == {"host": "db", "password": "[x]"}
    assert settings(None) == settings("") == {}


@pytest.mark.parametrize("name", ["content", "expect"])
def test_without_a_content_or_a_login_nothing_is_tried(server, capsys, name):
    given = {key: value for key, value in {"path": str(server.path), "content": NEW, "expect": "mlflow_a"}.items() if key != name}
    with patch_module_args(given), pytest.raises(SystemExit):
        plugin("modules", "mlflow_service_file").main()
    told = json.loads(capsys.readouterr().out)
    assert told["msg"] == f"missing required arguments: {name}" and server.asked == []
