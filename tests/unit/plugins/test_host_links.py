# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Symbolic links and interpreters, as host_info sees them."""

from __future__ import annotations

import os
import subprocess
import sys

from plugin_support import plugin


def test_links(tmp_path):
    (tmp_path / "link").symlink_to("/nowhere/3.17.2")
    (tmp_path / "file").write_text("")
    link = plugin("modules", "host_info").Host.link
    assert link(str(tmp_path / "link")) == "/nowhere/3.17.2"
    assert link(str(tmp_path / "file")) is None and link(str(tmp_path / "missing")) is None


def test_the_home_of_a_python_is_where_it_was_installed(tmp_path):
    """Not where the link is that leads there, nor the venv that was made of it."""

    def run(argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    host = plugin("modules", "host_info").Host(run)
    (tmp_path / "python3").symlink_to(sys.executable)
    for path in (sys.executable, str(tmp_path / "python3")):
        assert host.python_home(path) == os.path.realpath(sys.base_prefix)
    assert host.python_home("/bin/false") is None


def test_a_host_without_ipv6_is_one(monkeypatch):
    host = plugin("modules", "host_info")

    def refuse(*arguments):
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(host.socket, "socket", refuse)
    assert host.Host.ipv6() is False
