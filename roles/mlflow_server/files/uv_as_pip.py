# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Run uv with what this host's pip is configured with, and the CAs that the host trusts.

    python uv_as_pip.py UV [ARGUMENT]...

uv reads none of pip's files, so a host whose packages come from a mirror would install uv from it and go to PyPI for the rest.
An address may have a password in it: it is in no argument and no environment, but in a file in memory that uv inherits. What
uv itself is configured with comes first: by its environment, and where the host has a file of uv's nothing of pip's is used.
"""

import ast
import ensurepip
import glob
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

# As pip reads them: what comes later wins.
SECTIONS = ("global", "install", ":env:")
TRUE = ("1", "true", "yes", "on", "y", "t")


def pip_configuration():
    """What pip is configured with, by option. It lies beside Python as a wheel and runs from there."""
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or f"{ensurepip.__path__[0]}/_bundled"
    (wheel, *_others) = glob.glob(f"{folder}/pip-*.whl")
    done = subprocess.run(
        [sys.executable, f"{wheel}/pip", "config", "list"],
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return options(done.stdout)


def options(listed):
    """The options of an installation in the lines of `pip config list`, which are section.option='value'."""
    found = {}
    for line in listed.splitlines():
        name, equals, value = line.partition("=")
        section, dot, option = name.rpartition(".")
        if equals and dot and section in SECTIONS:
            found.setdefault(section, {})[option] = ast.literal_eval(value)
    return {option: value for section in SECTIONS for option, value in found.get(section, {}).items()}


def settings(pip):
    """The same as the content of uv.toml. JSON's texts and lists are TOML's, too."""
    extra = pip.get("extra-index-url", "").split()
    proxy = pip.get("proxy")
    found = {
        "find-links": pip.get("find-links", "").split(),
        "allow-insecure-host": pip.get("trusted-host", "").split(),
        "no-index": pip.get("no-index", "").lower() in TRUE,
        "http-proxy": proxy,
        "https-proxy": proxy,
        # For pip all indexes are one.
        "index-strategy": "unsafe-best-match" if extra else None,
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in found.items() if value]
    lines += [f"[[index]]\nurl = {json.dumps(url)}\n" for url in extra]
    if pip.get("index-url"):
        lines.append(f"[[index]]\nurl = {json.dumps(pip['index-url'])}\ndefault = true\n")
    return "".join(lines)


def environment(pip):
    """What uv takes by its environment alone: whom it trusts."""
    given = {"UV_SYSTEM_CERTS": "true"}
    if pip.get("cert"):
        given["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("client-cert"):
        given["SSL_CLIENT_CERT"] = pip["client-cert"]
    return {**given, **os.environ}


def has_its_own():
    """Whether the host has a file of uv's."""
    folders = [os.environ.get("XDG_CONFIG_HOME") or f"{Path.home()}/.config"]
    folders += (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") + ["/etc"]
    return "UV_CONFIG_FILE" in os.environ or any(Path(folder, "uv", "uv.toml").is_file() for folder in folders)


def main():
    pip = pip_configuration()
    text = settings(pip)
    argv = sys.argv[1:]
    if text and not has_its_own():
        file = os.memfd_create("uv.toml", 0)
        os.write(file, text.encode())
        argv += ["--config-file", f"/proc/self/fd/{file}"]
    os.execve(argv[0], argv, environment(pip))


if __name__ == "__main__":
    main()
