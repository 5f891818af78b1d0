#!/usr/bin/python
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_files
short_description: Folders, links and small files of one host in one task
version_added: "0.1.0"
description:
  - Makes sure of several folders, links and files with one start of Python, where a task for each would take seconds.
  - A file is written beside its place and moved there, with its owner and mode already set, so that a reader sees the old
    file or the new one, and a full disk leaves the old one whole.
  - In check mode, what lies in a folder that is not there yet is shown like everything else.
author:
  - the mlops.mlflow_aws contributors
options:
  absent:
    description: Files and links that must not be there.
    type: list
    elements: path
    default: []
  folders:
    description: Folders, in the order in which they are made.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder.
        type: path
        required: true
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, as octal digits.
        type: str
        default: "0755"
  links:
    description: Symbolic links.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The link.
        type: path
        required: true
      target:
        description: Where it points to.
        type: path
        required: true
  files:
    description: Files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: What is in it.
        type: str
        required: true
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, as octal digits.
        type: str
        default: "0644"
attributes:
  check_mode:
    description: Says what would be changed and changes nothing.
    support: full
  diff_mode:
    description: Shows the content of files. Use C(diff=false) and C(no_log=true) where that is secret.
    support: full
"""

EXAMPLES = r"""
- name: Make the folder and the settings in it
  mlops.mlflow_aws.host_files:
    folders:
      - path: /etc/mlflow
        group: mlflow
        mode: "0750"
    files:
      - path: /etc/mlflow/mlflow.env
        content: "MLFLOW_PORT=5000\n"
        group: mlflow
        mode: "0640"
"""

RETURN = r"""
paths:
  description: What was changed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: [/etc/mlflow/mlflow.env]
"""

import grp
import os
import pwd
import shutil
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule


class HostFiles:
    def __init__(self, check_mode=False):
        self.check_mode = check_mode
        self.paths = []
        self.diff = []

    def _changed(self, path, before="", after=""):
        if path not in self.paths:
            self.paths.append(path)
        if before != after:
            self.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def _set_rights(self, path, item, report_as):
        """Give a path its owner, group and mode, and report it where they were others."""
        state = os.lstat(path)
        mode = int(item["mode"], 8)
        uid, gid = pwd.getpwnam(item["owner"]).pw_uid, grp.getgrnam(item["group"]).gr_gid
        if (state.st_uid, state.st_gid) == (uid, gid) and stat.S_IMODE(state.st_mode) == mode:
            return
        if report_as:
            self._changed(
                report_as,
                f"{state.st_uid}:{state.st_gid} {stat.S_IMODE(state.st_mode):04o}\n",
                f"{uid}:{gid} {mode:04o}\n",
            )
        if not self.check_mode or not report_as:
            os.chown(path, uid, gid)
            os.chmod(path, mode)

    def absent(self, path):
        if not os.path.lexists(path):
            return
        self._changed(path, "there\n", "absent\n")
        if not self.check_mode:
            os.unlink(path)

    def folder(self, item):
        path = item["path"]
        if not os.path.isdir(path):
            self._changed(path, "absent\n", "folder\n")
            if self.check_mode:
                return
            os.mkdir(path, 0o700)
            self._set_rights(path, item, None)
            return
        self._set_rights(path, item, path)

    def link(self, item):
        path, target = item["path"], item["target"]
        before = os.readlink(path) if os.path.islink(path) else ""
        if before == target:
            return
        self._changed(path, f"link to {before}\n" if before else "absent\n", f"link to {target}\n")
        if not self.check_mode:
            beside = f"{path}.new"
            if os.path.lexists(beside):
                os.unlink(beside)
            os.symlink(target, beside)
            os.replace(beside, path)

    def file(self, item):
        path = item["path"]
        after = item["content"].encode()
        before = None
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as stream:
                before = stream.read()
        if before == after:
            self._set_rights(path, item, path)
            return
        self._changed(path, (before or b"").decode(errors="replace"), item["content"])
        if not self.check_mode:
            self._write(path, item, after)

    def _write(self, path, item, content):
        descriptor, beside = tempfile.mkstemp(prefix=".new-", dir=os.path.dirname(path))
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            self._set_rights(beside, item, None)
            if os.path.isdir(path) and not os.path.islink(path):
                raise IsADirectoryError(21, "a folder is in its place")
            shutil.move(beside, path)
        except BaseException:
            if os.path.exists(beside):
                os.unlink(beside)
            raise

    def ensure(self, params):
        """Make sure of everything; return the path and the error of what could not be done."""
        steps = [(self.absent, path, path) for path in params["absent"]]
        steps += [(self.folder, item, item["path"]) for item in params["folders"]]
        steps += [(self.link, item, item["path"]) for item in params["links"]]
        steps += [(self.file, item, item["path"]) for item in params["files"]]
        for step, item, path in steps:
            try:
                step(item)
            except OSError as error:
                return path, error.strerror or str(error)
            except KeyError as error:
                # getpwnam and getgrnam say which name they don't know.
                return path, str(error.args[0])
        return None


def main():
    rights = {
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        argument_spec={
            "absent": {"type": "list", "elements": "path", "default": []},
            "folders": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str", "default": "0755"},
                    **rights,
                },
            },
            "links": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "target": {"type": "path", "required": True},
                },
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    **rights,
                },
            },
        },
        supports_check_mode=True,
    )
    host = HostFiles(module.check_mode)
    failure = host.ensure(module.params)
    result = {"changed": bool(host.paths), "paths": host.paths}
    if failure:
        module.fail_json(msg=f"Could not put {failure[0]} right: {failure[1]}", **result)
    if module._diff:
        result["diff"] = host.diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
