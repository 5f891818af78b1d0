# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Looks for words (a JSON list on stdin) where no password belongs; says where, never which."""

import glob
import json
import os
import stat
import subprocess
import sys

words = [word.encode() for word in json.load(sys.stdin)]
found = []


def look(place, content):
    if any(word in content for word in words):
        found.append(place)


for pattern in ("cmdline", "environ"):
    for path in glob.glob(f"/proc/[0-9]*/{pattern}"):
        try:
            with open(path, "rb") as file:
                look(path, file.read())
        except OSError:
            pass

look("journal", subprocess.run(["journalctl", "--no-pager", "-o", "cat"], capture_output=True, check=False).stdout)

for top in ("/etc", "/home", "/opt/mlflow", "/root", "/run", "/srv", "/tmp", "/var"):
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
        for name in names:
            path = os.path.join(folder, name)
            try:
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode) and (mode & 0o004 or path.startswith(("/tmp", "/var/log", "/root", "/home"))):
                    with open(path, "rb") as file:
                        look(path, file.read())
            except OSError:
                pass

print("\n".join(found))
sys.exit(1 if found else 0)
