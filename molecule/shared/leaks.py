# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The one search for secrets where none belongs. Says where, and which by its name; never the secret itself.

    python3 leaks.py <ASKED

ASKED is JSON:
    words   {name: secret}, each of 12 characters or more
    host    whether to search this machine: arguments and environments of processes, the journal, and files that others may
            read or that are left behind
    tops    the folders of those files, in place of TOPS
    files   files and folders that are searched whole, whoever may read them: outputs, diffs, logs
    bucket  {"name": …, "endpoint_url": …, "region_name": …, "verify": …, "aws_access_key_id": …, "aws_secret_access_key": …}

A secret is also found as JSON, YAML or a URL writes it, in base64 (alone or within something longer), in hexadecimal digits, and
as its MD5, SHA-1, SHA-256 or SHA-512. Before each search made-up words are planted in each place, one in each of these forms, at
the beginning, in the middle and at the end of what is searched. A search that misses one of them is worth nothing, and ends so.

Ends with 0 where nothing was found, with 1 where something was, with 2 where it is asked for nonsense, with 3 where it is blind.
It runs with the system's Python of a host; a bucket wants boto3.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.parse

TOPS = ("/dev/shm", "/etc", "/home", "/opt/mlflow", "/root", "/run", "/srv", "/tmp", "/var")
# Where a file should not have a secret, whoever may read it.
LEFT_BEHIND = ("/dev/shm", "/home", "/root", "/tmp", "/var/log", "/var/tmp")
# What was published elsewhere: packages, and lists of them.
PUBLISHED = ("/var/cache/apt", "/var/lib/apt/lists")
JOURNAL = ("journalctl", "--no-pager", "--all", "--output=verbose")
SHORTEST = 12
# What is read at once. Each piece begins with the end of the one before, so that nothing is cut in two.
PIECE = 1 << 20
OVERLAP = 1 << 10
BLIND = 3


def encoded(word, alphabet=b"+/"):
    """What base64 of something that has the word in it has for sure, for each of the three places that it may begin at."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + word, altchars=alphabet).rstrip(b"=")
        yield whole[-(-shift * 8 // 6) : (shift + len(word)) * 8 // 6]


def forms(word):
    """{form: how it would be written there}"""
    raw = word.encode()
    found = {
        json.dumps(word)[1:-1].encode(): "in JSON",
        json.dumps(word, ensure_ascii=False)[1:-1].encode(): "in JSON",
        word.replace("'", "''").encode(): "in YAML",
        urllib.parse.quote(word, safe="").encode(): "in a URL",
        urllib.parse.quote_plus(word).encode(): "in a URL",
        raw.hex().encode(): "in hexadecimal digits",
    }
    for alphabet in (b"+/", b"-_"):
        found.update(dict.fromkeys(encoded(raw, alphabet), "in base64"))
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, raw, usedforsecurity=False).digest()
        found[digest.hex().encode()] = "as its " + name
        found[base64.b64encode(digest).rstrip(b"=")] = "as its " + name
    # A word without such signs is the same in most of these.
    found[raw] = "as it is"
    return found


class Planted:
    """A made-up word that has to be found in one place, and how it is written there."""

    written = 0

    def __init__(self, place):
        self.place = place
        self.word = "planted'\"/+ " + secrets.token_urlsafe(18)
        shapes = sorted(forms(self.word).items(), key=lambda item: item[1])
        # In turns, so that each way of writing is proved by some place of the search.
        self.form, self.how = shapes[Planted.written % len(shapes)]
        Planted.written += 1

    @property
    def text(self):
        return self.form.decode()


class Search:
    def __init__(self, words):
        self.names = {form: f"{name} {how}" for name, word in words.items() for form, how in forms(word).items()}
        self.planted = []
        self.seen = set()
        self.found = []
        self.looked = 0

    def plant(self, place):
        planted = Planted(place)
        self.planted.append(planted)
        return planted

    def look(self, place, content):
        self.looked += 1
        for form, name in self.names.items():
            if form in content:
                self.found.append(f"{name} in {place}")
        for planted in self.planted:
            if planted not in self.seen and planted.form in content:
                self.seen.add(planted)

    def read(self, place, file):
        before = b""
        while piece := file.read(PIECE):
            self.look(place, before + piece)
            before = piece[-OVERLAP:]

    def missed(self):
        return [planted for planted in self.planted if planted not in self.seen]


# --- places ------------------------------------------------------------------------------------------------------------


def three(content):
    """A file's content with a place at its beginning, in its middle and at its end."""
    middle = len(content) // 2
    return lambda *places: b"\n".join((places[0], content[:middle], places[1], content[middle:], places[2]))


@contextlib.contextmanager
def planted_in_processes(search):
    argument, variable = search.plant("an argument"), search.plant("an environment")
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    sleeps = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", sleeps, argument.text], **ends) as first, subprocess.Popen(
        [sys.executable, "-c", sleeps], env={"OF_A_TEST": variable.text}, **ends
    ) as second:
        try:
            # Both have their own arguments as soon as they read.
            for process in (first, second):
                while b"sys.stdin.read" not in open(f"/proc/{process.pid}/cmdline", "rb").read():
                    pass
            yield
        finally:
            for process in (first, second):
                process.stdin.close()


def processes(search):
    with planted_in_processes(search):
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
            for name in ("cmdline", "environ"):
                # It may be gone, or be the kernel's.
                with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
                    search.read(f"/proc/{pid}/{name}", file)


def journal(search, command=JOURNAL):
    if not shutil.which(command[0]):
        return
    planted = search.plant("the journal")
    with contextlib.suppress(OSError):
        subprocess.run(["systemd-cat", "--identifier=leaks"], input=planted.form + b"\n", check=True)
        subprocess.run(["journalctl", "--sync"], check=False)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        search.read("the journal", process.stdout)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with code {process.returncode}")


def regular(tops):
    """Files and their modes, in an order that stays; what is mounted is looked at, but for the kernel's own."""
    for top in tops:
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(name for name in folders if not is_published(folder, name))
            for name in sorted(names):
                path = os.path.join(folder, name)
                # It may be gone since.
                with contextlib.suppress(OSError):
                    mode = os.lstat(path).st_mode
                    if stat.S_ISREG(mode):
                        yield path, mode


def is_published(folder, name):
    path = os.path.join(folder, name)
    return path in PUBLISHED or (name == "lib" and os.path.exists(os.path.join(folder, "pyvenv.cfg")))


@contextlib.contextmanager
def planted_in_files(search, folders):
    """In the first, the middle and the last of them, in a file that sorts before all others, and in one that sorts after."""
    made = []
    try:
        for folder in (folders[0], folders[len(folders) // 2], folders[-1]):
            for name in ("!", "~"):
                path = os.path.join(folder, name + secrets.token_hex(4))
                places = [search.plant(f"{where} of {path}").form for where in ("the beginning", "the middle", "the end")]
                with open(path, "wb") as file:
                    made.append(path)
                    file.write(three(b"x" * (3 * PIECE))(*places))
                os.chmod(path, 0o644)
        yield
    finally:
        for path in made:
            os.unlink(path)


def readable(search, tops):
    tops = [top for top in tops if os.path.isdir(top)]
    with planted_in_files(search, tops):
        for path, mode in regular(tops):
            if mode & stat.S_IROTH or path.startswith(tuple(top + "/" for top in LEFT_BEHIND)):
                with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                    search.read(path, file)


def whole(search, paths):
    """Given files: what is asked for has to be there. The planted ones stand before, amid and behind them."""
    with tempfile.TemporaryDirectory() as folder:

        def planted(name):
            path = os.path.join(folder, name)
            places = [search.plant(f"{where} of the {name} file") for where in ("beginning", "middle", "end")]
            with open(path, "wb") as file:
                file.write(three(b"x" * (3 * PIECE))(*(place.form for place in places)))
            return path

        files = []
        for path in paths:
            files += [path for path, _mode in regular([path])] if os.path.isdir(path) else [path]
        middle = len(files) // 2
        for path in (planted("first"), *files[:middle], planted("middle"), *files[middle:], planted("last")):
            with open(path, "rb") as file:
                search.read(path, file)


def bucket(search, asked):
    import boto3

    name = asked.pop("name")
    s3 = boto3.client("s3", **asked)
    planted = {key: search.plant(f"object {key}") for key in ("!leaks", "leaks", "~leaks")}
    try:
        for key, place in planted.items():
            s3.put_object(Bucket=name, Key=key, Body=place.form)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
            for about in page.get("Contents", []):
                search.look(f"the name of {about['Key']}", about["Key"].encode())
                search.read(f"s3://{name}/{about['Key']}", s3.get_object(Bucket=name, Key=about["Key"])["Body"])
    finally:
        for key in planted:
            s3.delete_object(Bucket=name, Key=key)


def main():
    asked = json.load(sys.stdin)
    words = asked.get("words") or {}
    if not words or min(map(len, words.values())) < SHORTEST:
        print("these are no secrets to search for")
        return 2
    search = Search(words)
    if asked.get("host"):
        processes(search)
        journal(search)
        readable(search, asked.get("tops") or TOPS)
    if asked.get("files"):
        whole(search, asked["files"])
    if asked.get("bucket"):
        bucket(search, asked["bucket"])
    if not search.planted:
        print("there is no place to search in")
        return 2
    for planted in search.missed():
        print(f"blind: what was planted in {planted.place}, written {planted.how}, was not found")
    for line in sorted(set(search.found)):
        print(f"found {line}")
    print(f"{len(words)} secrets in {len(search.names)} forms looked for {search.looked} times; {len(search.planted)} planted")
    return BLIND if search.missed() else 1 if search.found else 0


if __name__ == "__main__":
    sys.exit(main())
