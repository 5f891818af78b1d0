# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How long a deployment takes on this machine. Started by bench/run, which prepares the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from _cloud import RESULTS, ROOT, changes, write

PLAYBOOK = ["ansible-playbook", "site.yml", "-i", "inventory/local"]
CLOUD = [sys.executable, "-m", "localcloud"]

# A name, a command, and the changes that it has to report: a figure of a run that did something else is no figure.
STEPS = [
    ("local cloud up, images cached", [*CLOUD, "up"], None),
    ("site.yml --check --diff, empty account", [*PLAYBOOK, "--check", "--diff"], None),
    ("site.yml, empty account", PLAYBOOK, "some"),
    ("site.yml, nothing to change", PLAYBOOK, "none"),
    ("site.yml --check, nothing to change", [*PLAYBOOK, "--check"], "none"),
    ("bin/quickstart --down", ["bin/quickstart", "--down"], None),
    ("bin/quickstart, downloads cached", ["bin/quickstart"], None),
    ("bin/quickstart again", ["bin/quickstart"], None),
]


def measure(name: str, command: list[str], expected: str | None) -> dict:
    log = RESULTS / "log" / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name} …", flush=True)
    begin = time.monotonic()
    with log.open("w") as output:
        result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    seconds = time.monotonic() - begin
    text = log.read_text(errors="replace")
    if result.returncode:
        sys.exit(f"{name} failed with exit code {result.returncode}; its output is in {log}\n" + text[-3000:])
    changed = changes(text)
    if (expected == "none" and changed) or (expected == "some" and not changed):
        sys.exit(f"{name}: {changed} changes, wanted {expected}; its output is in {log}")
    return {"name": name, "command": " ".join(command), "seconds": round(seconds, 1)}


def table(rows: list[dict]) -> str:
    width = max(len(row["name"]) for row in rows)
    return "\n".join(f"{row['name']:<{width}}  {row['seconds']:>7.1f} s" for row in rows)


def main() -> None:
    os.environ["LOCALCLOUD_NAME"] = "bench"
    # The user's own client.env stays as it is.
    os.environ["QUICKSTART_DIR"] = str(RESULTS / "quickstart")
    subprocess.run([*CLOUD, "reset"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = [measure(*step) for step in STEPS]
    subprocess.run(["bin/quickstart", "--down"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print(f"\n{table(rows)}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    write("deploy", {"memory_mib": memory, "rows": rows})


if __name__ == "__main__":
    main()
