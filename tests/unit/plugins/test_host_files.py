# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
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
    failure = host.ensure({"absent": [], "folders": [], "links": [], "files": [], "takes": [], **wanted})
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


def test_a_link_in_a_files_place_is_replaced_though_it_leads_to_the_same_content(wanted, tmp_path):
    """Whoever can write where it leads would write the file."""
    run(wanted)
    file, elsewhere = tmp_path / "etc" / "a", tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    host, failure = run(wanted)
    assert failure is None and host.paths == [str(file)]
    assert not file.is_symlink() and file.read_text() == "one\n" and mode(file) == 0o640


def test_what_a_cut_off_run_has_left_beside_a_link_is_no_obstacle(wanted, tmp_path):
    (tmp_path / "current.new").symlink_to("of-the-run-before")
    _host, failure = run(wanted)
    assert failure is None and os.readlink(tmp_path / "current") == str(tmp_path / "etc")
    assert not (tmp_path / "current.new").is_symlink()


def test_what_is_not_said_of_rights_is_safe():
    """A file that names no mode is root's to write and for all to read, such as a unit; what was taken is for root alone."""
    spec = {}

    class Taken(Exception):
        pass

    def take(**given):
        spec.update(given["argument_spec"])
        raise Taken

    files = plugin("modules", "host_files")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Taken):
        patch.setattr(files, "AnsibleModule", take)
        files.main()
    defaults = {kind: {name: spec[kind]["options"][name]["default"] for name in ("owner", "group", "mode")} for kind in
                ("files", "folders", "takes")}
    root = {"owner": "root", "group": "root"}
    assert defaults == {
        "files": {**root, "mode": "0644"}, "folders": {**root, "mode": "0755"}, "takes": {**root, "mode": "0600"}
    }


# --- what it answers to Ansible ---


@pytest.fixture
def main(capsys):
    def main(wanted, check_mode=False, diff=True):
        given = {**wanted, "_ansible_check_mode": check_mode, "_ansible_diff": diff}
        with patch_module_args(given), pytest.raises(SystemExit):
            plugin("modules", "host_files").main()
        return json.loads(capsys.readouterr().out)

    return main


def test_a_task_says_what_it_changed_and_what_it_would(main, wanted, tmp_path):
    (tmp_path / "old").write_text("")
    paths = [str(tmp_path / name) for name in ("old", "etc", "current", "etc/a")]
    planned = main(wanted, check_mode=True)
    assert planned["changed"] and planned["paths"] == paths and planned["kept"] == []
    assert os.listdir(tmp_path) == ["old"]
    made = main(wanted)
    assert made["changed"] and made["paths"] == paths and made["diff"] == planned["diff"]
    shown = {item["before_header"]: (item["before"], item["after"]) for item in made["diff"]}
    assert shown == {
        paths[0]: ("there\n", "absent\n"),
        paths[1]: ("absent\n", "folder\n"),
        paths[2]: ("absent\n", f"link to {tmp_path}/etc\n"),
        paths[3]: ("", "one\n"),
    }
    assert all(item["after_header"] == item["before_header"] for item in made["diff"])
    again = main(wanted)
    assert not again["changed"] and again["paths"] == [] and again["diff"] == []
    # The content may be a secret.
    wanted["files"][0]["content"] = "two\n"
    silent = main(wanted, diff=False)
    assert silent["changed"] and "diff" not in silent


def test_a_task_that_fails_says_what_it_has_changed_before(main, wanted, tmp_path):
    wanted["files"].append({"path": str(tmp_path / "none" / "b"), "content": "", **OWNER})
    failed = main(wanted)
    assert failed["failed"] and failed["changed"] and failed["paths"][-1] == str(tmp_path / "etc" / "a")
    assert failed["msg"] == f"Could not put {tmp_path}/none/b right: {tmp_path}/none is not there"


@pytest.mark.parametrize(
    "kind, item",
    [
        ("folders", {"path": "/nowhere/a"}),
        ("links", {"path": "/nowhere/a", "target": "b"}),
        ("files", {"path": "/nowhere/a", "content": "x"}),
        ("takes", {"path": "/nowhere/a", "source": "/nowhere/b"}),
    ],
)
def test_what_is_only_half_said_is_refused(main, kind, item):
    for name in item:
        half = {key: value for key, value in item.items() if key != name} or {"mode": "0755"}
        failed = main({kind: [half]})
        assert failed["failed"] and f"missing required arguments: {name} found in {kind}" in failed["msg"]


def test_a_file_that_was_left_is_kept_beside_another_one_by_default(main, tmp_path, left):
    (tmp_path / "root" / "password").write_text("kept\n")
    (item,) = taking(tmp_path, left)["takes"]
    del item["replace"]
    told = main({"takes": [item]})
    assert told["kept"] == [str(left)] and (tmp_path / "root" / "password").read_text() == "kept\n"


# --- one thing after the other ---


def test_what_is_in_no_folder_is_absent_and_what_is_a_folder_is_not_removed(tmp_path):
    host, failure = run({"absent": [str(tmp_path / "none" / "a"), str(tmp_path / "b")]})
    assert failure is None and host.paths == []
    (tmp_path / "b").mkdir()
    _host, failure = run({"absent": [str(tmp_path / "b")]})
    assert failure == (str(tmp_path / "b"), "Is a directory")
    (tmp_path / "c").symlink_to("nowhere")
    host, failure = run({"absent": [str(tmp_path / "c")]})
    assert failure is None and host.paths == [str(tmp_path / "c")] and not (tmp_path / "c").is_symlink()


@pytest.mark.parametrize("kind", ["folders", "links", "files"])
def test_what_a_folder_lacks_is_shown_in_check_mode_and_an_error_otherwise(tmp_path, kind):
    item = {"path": str(tmp_path / "none" / "a"), "target": "b", "content": "x", "mode": "0700", **OWNER}
    host, failure = run({kind: [item]}, check_mode=True)
    assert failure is None and host.paths == [item["path"]]
    host, failure = run({kind: [item]})
    assert failure == (item["path"], f"{tmp_path}/none is not there") and host.paths == []
    assert os.listdir(tmp_path) == []


def test_the_rights_of_a_folder_that_have_drifted(wanted, tmp_path):
    run(wanted)
    (tmp_path / "etc").chmod(0o777)
    planned, failure = run(wanted, check_mode=True)
    assert failure is None and planned.paths == [str(tmp_path / "etc")] and mode(tmp_path / "etc") == 0o777
    host, failure = run(wanted)
    assert failure is None and host.paths == planned.paths and mode(tmp_path / "etc") == 0o750
    ours = f"{os.getuid()}:{os.getgid()}"
    assert [(item["before"], item["after"]) for item in host.diff] == [(f"{ours} 0777\n", f"{ours} 0750\n")]


def test_rights_are_those_that_were_asked_whatever_the_umask(wanted, tmp_path):
    wanted["folders"][0]["mode"], wanted["files"][0]["mode"] = "0775", "0666"
    before = os.umask(0o077)
    try:
        assert run(wanted)[1] is None
    finally:
        os.umask(before)
    assert mode(tmp_path / "etc") == 0o775 and mode(tmp_path / "etc" / "a") == 0o666


def test_something_else_in_a_folders_place_is_an_error(wanted, tmp_path):
    (tmp_path / "etc").write_text("of somebody\n")
    host, failure = run({"folders": wanted["folders"]})
    assert failure == (str(tmp_path / "etc"), "Not a directory") and host.paths == []
    assert (tmp_path / "etc").read_text() == "of somebody\n"


def test_a_link_that_leads_elsewhere_is_put_right(wanted, tmp_path):
    (tmp_path / "current").symlink_to("of-before")
    planned, failure = run(wanted, check_mode=True)
    assert failure is None and os.readlink(tmp_path / "current") == "of-before"
    host, failure = run(wanted)
    assert failure is None and os.readlink(tmp_path / "current") == str(tmp_path / "etc")
    for one in (planned, host):
        (shown,) = [item for item in one.diff if item["before_header"] == str(tmp_path / "current")]
        assert (shown["before"], shown["after"]) == ("link to of-before\n", f"link to {tmp_path}/etc\n")
    # Nothing of the way there stays.
    assert sorted(os.listdir(tmp_path)) == ["current", "etc"]


def test_a_link_takes_the_place_of_a_file(wanted, tmp_path):
    (tmp_path / "current").write_text("of before\n")
    host, failure = run(wanted)
    assert failure is None and str(tmp_path / "current") in host.paths
    assert os.readlink(tmp_path / "current") == str(tmp_path / "etc")


def test_a_file_with_other_rights_and_content_is_told_once(wanted, tmp_path):
    run(wanted)
    (tmp_path / "etc" / "a").write_bytes(b"\xff\n")
    (tmp_path / "etc" / "a").chmod(0o600)
    host, failure = run(wanted)
    assert failure is None and host.paths == [str(tmp_path / "etc" / "a")]
    assert (tmp_path / "etc" / "a").read_text() == "one\n" and mode(tmp_path / "etc" / "a") == 0o640
    assert [(item["before"], item["after"]) for item in host.diff] == [("\ufffd\n", "one\n")]


def test_an_unknown_group_is_named_and_nothing_stays_of_the_file(wanted, tmp_path):
    wanted["files"][0]["group"] = "group-of-no-such-name"
    _host, failure = run(wanted)
    assert failure[0] == str(tmp_path / "etc" / "a") and "group-of-no-such-name" in failure[1]
    assert os.listdir(tmp_path / "etc") == []


def test_open_folders_and_files_are_closed_again(wanted, tmp_path, left):
    """A role has hundreds of paths; a process may have a thousand files open."""
    asked = {**wanted, **taking(tmp_path, left), "absent": [str(tmp_path / "none" / "a"), str(tmp_path / "none")]}
    (tmp_path / "link").symlink_to(tmp_path)
    asked["files"].append({"path": str(tmp_path / "link" / "etc" / "b"), "content": "", "mode": "0600", **OWNER})
    asked["files"].append({"path": str(tmp_path / "none" / "b"), "content": "", "mode": "0600", **OWNER})
    run(asked)
    before = len(os.listdir("/proc/self/fd"))
    for _unused in range(3):
        run(asked)
    assert len(os.listdir("/proc/self/fd")) == before


# --- what another user has put there ---

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can follow what another user has planted")


@pytest.fixture
def theirs(tmp_path):
    """A folder of another user's, as the service has one, and beside it what root has: a folder and a file with a secret."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    (victim / "shadow").write_text("secret\n")
    os.chmod(victim / "shadow", 0o600)
    os.chown(home, 65534, 65534)
    return home


def plant(path, target):
    os.symlink(target, path)
    os.lchown(path, 65534, 65534)


@pytest.fixture
def untouched(tmp_path, theirs):
    """Fails the test when anything of root's has changed."""

    def state():
        found = {}
        for path in [tmp_path, tmp_path / "victim", *(tmp_path / "victim").iterdir()]:
            about = path.stat()
            found[path] = about.st_uid, about.st_gid, about.st_mode, path.read_text() if path.is_file() else ""
        return found

    before = state()
    yield
    assert state() == before


NOBODY = {"owner": "nobody", "group": grp.getgrgid(65534).gr_name}


@needs_root
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_link_in_a_folders_place_is_an_error(tmp_path, theirs, untouched, check_mode):
    plant(theirs / "tmp", tmp_path / "victim")
    _host, failure = run({"folders": [{"path": str(theirs / "tmp"), "mode": "0700", **NOBODY}]}, check_mode)
    assert failure == (str(theirs / "tmp"), "a symbolic link is in its place")


@needs_root
def test_no_part_of_a_path_is_a_link_of_another_user(tmp_path, theirs, untouched):
    plant(theirs / "sub", tmp_path / "victim")
    path = str(theirs / "sub" / "shadow")
    attempts = [
        {"folders": [{"path": str(theirs / "sub" / "new"), "mode": "0700", **NOBODY}]},
        {"files": [{"path": path, "content": "secret\n", "mode": "0644", **NOBODY}]},
        {"files": [{"path": path, "content": "theirs\n", "mode": "0644", **NOBODY}]},
        {"links": [{"path": path, "target": "/nowhere"}]},
        {"absent": [path]},
        {"takes": [{"source": path, "path": str(tmp_path / "kept"), "mode": "0600", "replace": True, **OWNER}]},
    ]
    for wanted in attempts:
        for check_mode in (True, False):
            host, failure = run(wanted, check_mode)
            assert failure is not None, wanted
            assert failure[1] == f"{theirs}/sub is a symbolic link that others than root may have put there", wanted
            assert host.paths == []
    assert not (tmp_path / "kept").exists()


@needs_root
def test_a_link_in_a_files_place_is_replaced_and_not_followed(tmp_path, theirs, untouched):
    plant(theirs / "a", tmp_path / "victim" / "shadow")
    _host, failure = run({"files": [{"path": str(theirs / "a"), "content": "secret\n", "mode": "0644", **NOBODY}]})
    assert failure is None
    assert not (theirs / "a").is_symlink() and (theirs / "a").read_text() == "secret\n"


@needs_root
def test_another_name_of_a_file_of_roots_is_not_given_away(tmp_path, theirs, untouched):
    """Where the kernel lets users make such a name (fs.protected_hardlinks=0)."""
    os.link(tmp_path / "victim" / "shadow", theirs / "a")
    _host, failure = run({"files": [{"path": str(theirs / "a"), "content": "secret\n", "mode": "0644", **NOBODY}]})
    assert failure is None
    assert (theirs / "a").stat().st_uid == 65534
    os.unlink(theirs / "a")


@needs_root
def test_a_file_that_another_user_may_have_open_is_written_anew(theirs):
    (theirs / "a").write_text("one\n")
    os.chown(theirs / "a", 65534, 65534)
    with (theirs / "a").open("a") as held:
        _host, failure = run({"files": [{"path": str(theirs / "a"), "content": "one\n", "mode": "0600", **OWNER}]})
        assert failure is None
        held.write("two\n")
    assert (theirs / "a").read_text() == "one\n"
    assert run({"files": [{"path": str(theirs / "a"), "content": "one\n", "mode": "0600", **OWNER}]})[0].paths == []


@needs_root
def test_a_pipe_in_a_files_place_is_not_waited_for(theirs):
    os.mkfifo(theirs / "a")
    _host, failure = run({"files": [{"path": str(theirs / "a"), "content": "one\n", "mode": "0600", **NOBODY}]})
    assert failure is None and (theirs / "a").read_text() == "one\n"


@needs_root
def test_a_link_in_a_sticky_folder_is_followed_if_root_made_it(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", shared / "ours")
    plant(shared / "theirs", tmp_path / "real")
    rights = {"content": "one\n", "mode": "0600", **OWNER}
    assert run({"files": [{"path": str(shared / "ours" / "a"), **rights}]})[1] is None
    assert run({"files": [{"path": str(shared / "theirs" / "b"), **rights}]})[1] is not None
    assert os.listdir(tmp_path / "real") == ["a"]
    shared.chmod(0o777)
    assert run({"files": [{"path": str(shared / "ours" / "c"), **rights}]})[1] is not None


def test_links_of_roots_are_followed(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    os.symlink("real", tmp_path / "relative")
    os.symlink(tmp_path / "relative" / "deep" / ".." / "deep", tmp_path / "absolute")
    path = tmp_path / "absolute" / "a"
    assert run({"files": [{"path": str(path), "content": "one\n", "mode": "0600", **OWNER}]})[1] is None
    assert (tmp_path / "real" / "deep" / "a").read_text() == "one\n"
    os.symlink("loop", tmp_path / "loop")
    assert run({"files": [{"path": str(tmp_path / "loop" / "a"), "content": "", "mode": "0600", **OWNER}]})[1] is not None


@needs_root
def test_what_can_not_be_replaced_keeps_its_content(tmp_path):
    """A file that is a mount of its own: the kernel refuses to rename over it, and nothing is copied into it."""
    kept, place = tmp_path / "kept", tmp_path / "place"
    kept.write_text("one\n")
    place.write_text("")
    if subprocess.run(["mount", "--bind", kept, place], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        _host, failure = run({"files": [{"path": str(place), "content": "two\n", "mode": "0600", **OWNER}]})
        assert failure == (str(place), "Device or resource busy")
        assert place.read_text() == "one\n"
    finally:
        subprocess.run(["umount", place], check=True)
    assert sorted(os.listdir(tmp_path)) == ["kept", "place"]


def test_the_folder_is_on_the_disk_after_the_file(wanted, tmp_path, monkeypatch):
    run(wanted)
    order = []
    module = plugin("modules", "host_files")
    fsync, replace = os.fsync, os.replace

    def noted(descriptor):
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def moved(*names, **folders):
        order.append("move")
        replace(*names, **folders)

    monkeypatch.setattr(module.os, "fsync", noted)
    monkeypatch.setattr(module.os, "replace", moved)
    wanted["files"][0]["content"] = "two\n"
    run(wanted)
    assert order == ["file", "move", "folder"]


# --- what another user has left for root ---


@pytest.fixture
def left(tmp_path):
    (tmp_path / "root").mkdir(mode=0o700)
    home = tmp_path / "left"
    home.mkdir(mode=0o700)
    (home / "password").write_text("made\n")
    if os.geteuid() == 0:
        for path in (home, home / "password"):
            os.chown(path, 65534, 65534)
    return home / "password"


def taking(tmp_path, left, replace=False):
    path = str(tmp_path / "root" / "password")
    return {"takes": [{"source": str(left), "path": path, "mode": "0600", "replace": replace, **OWNER}]}


def test_taking_a_file_and_again(tmp_path, left):
    path = tmp_path / "root" / "password"
    planned, failure = run(taking(tmp_path, left), check_mode=True)
    assert failure is None and planned.paths == [str(path), str(left)] and left.exists() and not path.exists()
    made, failure = run(taking(tmp_path, left))
    assert failure is None and made.paths == planned.paths
    assert path.read_text() == "made\n" and mode(path) == 0o600 and path.stat().st_uid == os.geteuid() and not left.exists()
    assert "made" not in str(made.diff) + str(planned.diff)
    again, failure = run(taking(tmp_path, left))
    assert failure is None and again.paths == [] and again.kept == []


@pytest.mark.parametrize("after", ["fsync", "replace", "unlink"])
def test_taking_is_cut_off(tmp_path, left, monkeypatch, after):
    """Wherever that is, the content is in one of the two places, and the next run makes it whole."""
    module = plugin("modules", "host_files")

    class Cut(BaseException):
        pass

    def cut(*_arguments, **_options):
        raise Cut

    path = tmp_path / "root" / "password"
    with monkeypatch.context() as patched:
        patched.setattr(module.os, after, cut)
        with pytest.raises(Cut):
            run(taking(tmp_path, left))
    there = [item.read_text() for item in (left, path) if item.exists()]
    assert there and set(there) == {"made\n"}
    assert run(taking(tmp_path, left))[1] is None
    assert path.read_text() == "made\n" and not left.exists()


def test_what_is_kept_is_replaced_only_if_that_is_asked(tmp_path, left):
    path = tmp_path / "root" / "password"
    path.write_text("kept\n")
    path.chmod(0o600)
    host, failure = run(taking(tmp_path, left))
    assert failure is None and host.kept == [str(left)] and host.paths == []
    assert path.read_text() == "kept\n" and left.exists()
    host, failure = run(taking(tmp_path, left, replace=True))
    assert failure is None and host.kept == []
    assert path.read_text() == "made\n" and not left.exists()


@needs_root
@pytest.mark.parametrize("what", ["link", "name", "pipe", "folder", "large"])
def test_only_a_file_of_its_own_is_taken(tmp_path, left, what):
    secret = tmp_path / "root" / "secret"
    secret.write_text("secret\n")
    left.unlink()
    if what == "link":
        plant(left, secret)
    elif what == "name":
        os.link(secret, left)
    elif what == "pipe":
        os.mkfifo(left)
    elif what == "folder":
        left.mkdir()
    else:
        left.write_text("x" * 100_000)
    host, failure = run(taking(tmp_path, left))
    assert failure is not None and str(left) in failure[1] and host.paths == []
    assert not (tmp_path / "root" / "password").exists() and secret.read_text() == "secret\n"


def test_nothing_left_is_nothing_to_take(tmp_path, left):
    asked = taking(tmp_path, left)
    left.unlink()
    host, failure = run(asked)
    assert failure is None and host.paths == [] and not (tmp_path / "root" / "password").exists()
    left.parent.rmdir()
    host, failure = run(asked)
    assert failure is None and host.paths == []


def test_where_a_file_is_to_be_taken_to_has_to_be_there(tmp_path, left):
    (tmp_path / "root").rmdir()
    planned, failure = run(taking(tmp_path, left), check_mode=True)
    assert failure is None and planned.paths == [str(tmp_path / "root" / "password"), str(left)]
    _host, failure = run(taking(tmp_path, left))
    assert failure is not None and left.read_text() == "made\n"


def test_what_was_taken_before_and_was_left_again_is_only_removed(tmp_path, left):
    """As after a run that was cut off between the two."""
    path = tmp_path / "root" / "password"
    path.write_text("made\n")
    path.chmod(0o600)
    host, failure = run(taking(tmp_path, left))
    assert failure is None and host.paths == [str(left)] and host.kept == []
    assert path.read_text() == "made\n" and not left.exists()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024])
def test_as_much_as_a_key_may_have_is_taken_whole(tmp_path, left, size):
    left.write_text("x" * size)
    assert run(taking(tmp_path, left))[1] is None
    assert (tmp_path / "root" / "password").read_text() == "x" * size


def test_more_than_that_is_refused(tmp_path, left):
    left.write_text("x" * (64 * 1024 + 1))
    _host, failure = run(taking(tmp_path, left))
    assert failure[1] == f"{left} is larger than 65536 bytes" and left.exists()


@needs_root
def test_a_link_below_a_folder_of_another_user_is_not_followed_though_root_made_it(tmp_path, theirs):
    """Another user may have exchanged what it leads through, or the folder that it is in."""
    (theirs / "deep").mkdir()
    os.symlink(tmp_path / "victim", theirs / "deep" / "link")
    _host, failure = run({"files": [{"path": str(theirs / "deep" / "link" / "a"), "content": "", "mode": "0600", **OWNER}]})
    assert failure is not None and "is a symbolic link" in failure[1] and os.listdir(tmp_path / "victim") == ["shadow"]


@needs_root
@pytest.mark.parametrize("rights, ours", [(0o755, True), (0o775, False), (0o757, False), (0o1777, False)])
def test_in_a_folder_that_others_may_write_a_file_with_other_rights_is_written_anew(tmp_path, rights, ours):
    """Who has made it may have it open."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(rights)
    file = shared / "a"
    file.write_text("one\n")
    file.chmod(0o666)
    before = file.stat().st_ino
    assert run({"files": [{"path": str(file), "content": "one\n", "mode": "0600", **OWNER}]})[1] is None
    assert mode(file) == 0o600 and (file.stat().st_ino == before) == ours


@pytest.fixture
def exchanged(monkeypatch):
    """exchanged(path, how): whoever has looked what is there finds something else when it is opened."""

    def exchange(path, how):
        folder = plugin("modules", "host_files").Folder
        look = folder.look

        def looked(self, name):
            state = look(self, name)
            if name == path.name and how not in done:
                done.append(how)
                path.rename(path.with_name("moved"))
                how(path)
            return state

        done = []
        monkeypatch.setattr(folder, "look", looked)
        return done

    return exchange


@pytest.mark.parametrize("kind", ["folders", "files", "absent"])
def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(tmp_path, exchanged, kind):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "a").write_text("of root\n")
    (tmp_path / "home").mkdir()
    path = str(tmp_path / "home" / "a")
    item = path if kind == "absent" else {"path": path, "content": "x", "mode": "0777", **OWNER}
    done = exchanged(tmp_path / "home", lambda home: home.symlink_to(tmp_path / "victim"))
    host, failure = run({kind: [item]})
    assert done and failure is not None and host.paths == []
    assert (tmp_path / "victim" / "a").read_text() == "of root\n"


def test_a_file_that_becomes_a_link_meanwhile_is_not_read(tmp_path, exchanged, left):
    secret = tmp_path / "root" / "secret"
    secret.write_text("secret\n")
    done = exchanged(left, lambda path: path.symlink_to(secret))
    _host, failure = run(taking(tmp_path, left))
    assert done and failure is not None and not (tmp_path / "root" / "password").exists()


@pytest.mark.parametrize("kind", ["files", "takes"])
def test_a_file_that_becomes_a_pipe_meanwhile_is_not_waited_for(tmp_path, exchanged, left, kind):
    done = exchanged(left, os.mkfifo)
    asked = taking(tmp_path, left) if kind == "takes" else {
        "files": [{"path": str(left), "content": "x", "mode": "0600", **OWNER}]
    }
    _host, failure = run(asked)
    if kind == "files":
        assert done and failure is None and left.read_text() == "x"
    else:
        assert done and failure is not None and not (tmp_path / "root" / "password").exists()
