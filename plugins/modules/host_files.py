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
  - Follows a symbolic link only where nobody but root could have put it. Below a folder that another user may write, each
    part of a path has to be what it is called; a link there is an error that names it.
  - A link in the place of one of O(folders) is always an error. To replace it would lose what lies behind it, and to follow
    it would give that away; whoever wants the folder elsewhere names it by its own path.
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
  takes:
    description:
      - Files that another user has left for root, each taken to a place of root's. What was taken is written and on the disk
        before the file of that user is removed, so that one of the two is there at any moment.
      - The content is never in the answer or in a diff.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is kept.
        type: path
        required: true
      source:
        description:
          - The file that is taken. A missing one is no error.
          - Anything but a file of its own, with one name, is an error.
        type: path
        required: true
      replace:
        description:
          - Whether it may replace another content of O(takes[].path).
          - Where it may not, both stay as they are and RV(kept) names the source, since nobody can tell which one counts.
        type: bool
        default: false
      owner:
        description: The owner of the file that is kept.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, as octal digits.
        type: str
        default: "0600"
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
kept:
  description: Sources of O(takes) that were left where they are, because another content is kept already.
  returned: always
  type: list
  elements: str
  sample: []
"""

import contextlib
import errno
import grp
import os
import pwd
import secrets
import stat

from ansible.module_utils.basic import AnsibleModule

# As many as the kernel follows.
LINKS = 40
# What is taken from another user is a password or a key; nobody may fill root's memory with it.
TAKEN_BYTES = 64 * 1024
# To be read; and no program that is started gets them, as Python opens everything.
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW
# Without O_NONBLOCK a pipe in the file's place would be waited for.
FILE = os.O_NOFOLLOW | os.O_NONBLOCK


class Folder:
    """An open folder, and whether others than root may have changed what is in it or which one it is."""

    def __init__(self, descriptor, tainted=False):
        self.descriptor = descriptor
        state = os.fstat(descriptor)
        self.sticky = bool(state.st_mode & stat.S_ISVTX)
        self.tainted = tainted or state.st_uid not in _ours()
        self.open_to_others = bool(state.st_mode & 0o022)

    @property
    def ours(self):
        """Whether all in it is root's doing."""
        return not self.tainted and not self.open_to_others

    def may_follow(self, link):
        """Whether nobody but root can have made this link. In a sticky folder that is seen by its owner."""
        return not self.tainted and link.st_uid in _ours() and (not self.open_to_others or self.sticky)

    def look(self, name):
        """What is there under this name, or nothing."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def enter(self, name):
        # A folder in a sticky one may be anybody's; its owner tells.
        return Folder(os.open(name, FOLDER, dir_fd=self.descriptor), self.tainted or (self.open_to_others and not self.sticky))

    def close(self):
        os.close(self.descriptor)


def _ours():
    return {0, os.geteuid()}


def _walk(path):
    """
    Open the folder that a path is in, and return it with the path's last name. A missing folder is a FileNotFoundError.

    Every part is opened from the folder before it, so that nobody can exchange one meanwhile.
    """
    *parts, name = os.path.abspath(path).split("/")[1:]
    folder, walked, links = Folder(os.open("/", FOLDER)), "", 0
    try:
        while parts:
            part = parts.pop(0)
            state = folder.look(part)
            if state is None:
                raise FileNotFoundError(errno.ENOENT, f"{walked}/{part} is not there")
            if stat.S_ISLNK(state.st_mode):
                links += 1
                if links > LINKS or not folder.may_follow(state):
                    raise OSError(errno.ELOOP, f"{walked}/{part} is a symbolic link that others than root may have put there")
                # Read by its name, again: in this folder nobody else can have exchanged it.
                target = os.readlink(part, dir_fd=folder.descriptor)
                if target.startswith("/"):
                    folder.close()
                    folder, walked = Folder(os.open("/", FOLDER)), ""
                parts = [item for item in target.split("/") if item not in ("", ".")] + parts
                continue
            inside = folder.enter(part)
            folder.close()
            folder, walked = inside, f"{walked}/{part}"
    except BaseException:
        folder.close()
        raise
    return folder, name


@contextlib.contextmanager
def _inside(path, missing_is_fine=False):
    """The folder that a path is in, open, and the path's last name; no folder where that may be missing and is."""
    try:
        folder, name = _walk(path)
    except FileNotFoundError:
        if not missing_is_fine:
            raise
        folder, name = None, os.path.basename(path)
    try:
        yield folder, name
    finally:
        if folder:
            folder.close()


class HostFiles:
    def __init__(self, check_mode=False):
        self.check_mode = check_mode
        self.paths = []
        self.kept = []
        self.diff = []

    def _changed(self, path, before="", after=""):
        if path not in self.paths:
            self.paths.append(path)
        if before != after:
            self.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})

    @staticmethod
    def _rights(descriptor, item):
        """What an open file or folder has of owner, group and mode, and what it should have."""
        state = os.fstat(descriptor)
        wanted = pwd.getpwnam(item["owner"]).pw_uid, grp.getgrnam(item["group"]).gr_gid, int(item["mode"], 8)
        return (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)), wanted

    def _set_rights(self, descriptor, item, report_as):
        """Give an open file or folder its owner, group and mode, and report it where they were others."""
        before, after = self._rights(descriptor, item)
        if before == after:
            return
        if report_as:
            texts = [f"{uid}:{gid} {mode:04o}\n" for uid, gid, mode in (before, after)]
            self._changed(report_as, *texts)
        if not self.check_mode or not report_as:
            os.fchown(descriptor, after[0], after[1])
            os.fchmod(descriptor, after[2])

    def absent(self, path):
        with _inside(path, missing_is_fine=True) as (folder, name):
            if folder is None or folder.look(name) is None:
                return
            self._changed(path, "there\n", "absent\n")
            if not self.check_mode:
                os.unlink(name, dir_fd=folder.descriptor)

    def folder(self, item):
        path = item["path"]
        with _inside(path, missing_is_fine=self.check_mode) as (above, name):
            made = above is None or above.look(name) is None
            if made:
                self._changed(path, "absent\n", "folder\n")
                if self.check_mode:
                    return
                os.mkdir(name, 0o700, dir_fd=above.descriptor)
            elif stat.S_ISLNK(above.look(name).st_mode):
                raise OSError(errno.ELOOP, "a symbolic link is in its place")
            descriptor = os.open(name, FOLDER, dir_fd=above.descriptor)
            try:
                self._set_rights(descriptor, item, None if made else path)
            finally:
                os.close(descriptor)

    def link(self, item):
        path, target = item["path"], item["target"]
        with _inside(path, missing_is_fine=self.check_mode) as (folder, name):
            state = folder and folder.look(name)
            before = os.readlink(name, dir_fd=folder.descriptor) if state and stat.S_ISLNK(state.st_mode) else ""
            if before == target:
                return
            self._changed(path, f"link to {before}\n" if before else "absent\n", f"link to {target}\n")
            if self.check_mode:
                return
            beside = f"{name}.new"
            if folder.look(beside):
                os.unlink(beside, dir_fd=folder.descriptor)
            os.symlink(target, beside, dir_fd=folder.descriptor)
            self._put(folder, beside, name)

    def file(self, item):
        path = item["path"]
        after = item["content"].encode()
        with _inside(path, missing_is_fine=self.check_mode) as (folder, name):
            before = folder and self._mend(folder, name, path, item, after)
            if before == after:
                return
            self._changed(path, (before or b"").decode(errors="replace"), item["content"])
            if not self.check_mode:
                self._write(folder, name, item, after)

    def _mend(self, folder, name, path, item, wanted):
        """
        Return what is in a file; nothing where there is none, or where it is not to be trusted.

        With the wanted content it gets its rights here. Only where all in the folder is ours: elsewhere somebody may have
        it open for writing, or it may be another name of some other file, so that a new one takes its place.
        """
        state = folder.look(name)
        if state is None or not stat.S_ISREG(state.st_mode):
            return None
        descriptor = os.open(name, FILE, dir_fd=folder.descriptor)
        with os.fdopen(descriptor, "rb") as stream:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                return None
            before, after = self._rights(descriptor, item)
            if not folder.ours and (before != after or state.st_nlink != 1):
                return None
            content = stream.read()
            if content == wanted:
                self._set_rights(descriptor, item, path)
            return content

    def _write(self, folder, name, item, content):
        """Write a file beside its place, whole and with its rights, and move it there."""
        beside = f".new-{secrets.token_hex(8)}"
        # With O_EXCL no link is followed.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder.descriptor)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                self._set_rights(descriptor, item, None)
                os.fsync(descriptor)
        except BaseException:
            self._discard(folder, beside)
            raise
        self._put(folder, beside, name)

    @staticmethod
    def _put(folder, beside, name):
        """
        Move what is ready to its place, or leave there what it was: where the file system refuses, nothing is copied.

        The folder is on the disk before anybody builds on the new name.
        """
        try:
            os.replace(beside, name, src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor)
        except BaseException:
            HostFiles._discard(folder, beside)
            raise
        os.fsync(folder.descriptor)

    @staticmethod
    def _discard(folder, beside):
        # In a folder of another user it may be gone; what went wrong before is what is told.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder.descriptor)

    def take(self, item):
        source, path = item["source"], item["path"]
        with _inside(source, missing_is_fine=True) as (there, name):
            if there is None or there.look(name) is None:
                return
            content = self._left_by_another(there, name, source)
            with _inside(path, missing_is_fine=self.check_mode) as (folder, own_name):
                before = self._mend(folder, own_name, path, item, content) if folder else None
                if before not in (None, content) and not item["replace"]:
                    self.kept.append(source)
                    return
                if before != content:
                    self._changed(path)
                    if not self.check_mode:
                        self._write(folder, own_name, item, content)
            self._changed(source)
            if not self.check_mode:
                os.unlink(name, dir_fd=there.descriptor)

    @staticmethod
    def _left_by_another(folder, name, path):
        wrong = OSError(errno.ELOOP, f"{path} is no file of its own with one name")
        state = folder.look(name)
        if state is None or not stat.S_ISREG(state.st_mode):
            raise wrong
        descriptor = os.open(name, FILE, dir_fd=folder.descriptor)
        with os.fdopen(descriptor, "rb") as stream:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
                raise wrong
            content = stream.read(TAKEN_BYTES + 1)
        if len(content) > TAKEN_BYTES:
            raise OSError(errno.EFBIG, f"{path} is larger than {TAKEN_BYTES} bytes")
        return content

    def ensure(self, params):
        """Make sure of everything; return the path and the error of what could not be done."""
        steps = [(self.absent, path, path) for path in params["absent"]]
        steps += [(self.folder, item, item["path"]) for item in params["folders"]]
        steps += [(self.link, item, item["path"]) for item in params["links"]]
        steps += [(self.file, item, item["path"]) for item in params["files"]]
        steps += [(self.take, item, item["path"]) for item in params["takes"]]
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
            "takes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "source": {"type": "path", "required": True},
                    "replace": {"type": "bool", "default": False},
                    "mode": {"type": "str", "default": "0600"},
                    **rights,
                },
            },
        },
        supports_check_mode=True,
    )
    host = HostFiles(module.check_mode)
    failure = host.ensure(module.params)
    result = {"changed": bool(host.paths), "paths": host.paths, "kept": host.kept}
    if failure:
        module.fail_json(msg=f"Could not put {failure[0]} right: {failure[1]}", **result)
    if module._diff:
        result["diff"] = host.diff
    module.exit_json(**result)


if __name__ == "__main__":
    main()
