# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Symbolic links, as host_info sees them."""

from __future__ import annotations

from plugin_support import plugin


def test_links(tmp_path):
    (tmp_path / "link").symlink_to("/nowhere/3.17.2")
    (tmp_path / "file").write_text("")
    link = plugin("modules", "host_info").Host.link
    assert link(str(tmp_path / "link")) == "/nowhere/3.17.2"
    assert link(str(tmp_path / "file")) is None and link(str(tmp_path / "missing")) is None
