# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which of these files hold one of the words on standard input (a JSON list)? Prints the files, never a word."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def forms(word: str) -> list[bytes]:
    """The word as it is, and as JSON and YAML would write it."""
    return list({word.encode(), json.dumps(word)[1:-1].encode(), word.replace("'", "''").encode()})


def main() -> int:
    words = [form for word in json.load(sys.stdin) for form in forms(word)]
    if not words or min(len(word) for word in words) < 12:
        sys.exit("these are no passwords to search for")
    files = [f for name in sys.argv[1:] for f in ([Path(name)] if Path(name).is_file() else Path(name).rglob("*"))]
    read = found = 0
    for file in files:
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            read += 1
            if any(word in content for word in words):
                print(f"found in {file}")
                found += 1
    print(f"{read} files searched")
    return 1 if found or not read else 0


if __name__ == "__main__":
    sys.exit(main())
