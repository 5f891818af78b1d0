# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Write down which sources of MLflow somebody has read: compat/known.json of the service.

    python bin/_known.py VERSION=FILE…

Each FILE is what `python -m mlflow_service.probe --fingerprints` has printed in a venv with that version, of which the functions
that patches replace were read before.
"""

import json
import sys
from pathlib import Path

KNOWN = Path(__file__).resolve().parents[1] / "roles/mlflow_server/files/service/mlflow_service/compat/known.json"


def main() -> None:
    known: dict[str, dict[str, list[str]]] = {}
    for argument in sys.argv[1:]:
        version, _, file = argument.partition("=")
        for name, fingerprint in json.loads(Path(file).read_text(encoding="utf-8")).items():
            known.setdefault(name, {}).setdefault(fingerprint, []).append(version)
    KNOWN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
