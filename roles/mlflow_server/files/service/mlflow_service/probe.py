# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whether this service can serve the MLflow that is installed in its venv, and what of it has to be left out.

    python -m mlflow_service.probe [--json] [--left-out NAME[,NAME]...]
    python -m mlflow_service.probe --fingerprints

Runs before anything is migrated or switched. Changes nothing, asks no database and needs no setting. Ends with 1 where that
MLflow can't be served; what is left out is no failure. With --fingerprints it prints those of the functions that patches
replace, as known.json has them of versions that somebody has read.
"""

import argparse
import contextlib
import json
import os
import sys

from mlflow_service.database import schema

# The lowest MLflow that this service is for.
LOWEST = "3.16.1"


def look(left_out=()):
    """
    Returns `version`, `patches` (of each: name, kind, what, replaces, ground, used, why), `left_out` (one sentence for each)
    and `refused` (one sentence, or nothing).
    """
    try:
        from mlflow.version import VERSION
    except Exception as error:
        return {"version": None, "patches": [], "left_out": [], "refused": _does_not_import(error)}
    found = {"version": VERSION, "patches": [], "left_out": [], "refused": ""}
    if schema.is_newer(LOWEST, VERSION):
        return {**found, "refused": f"MLflow {VERSION} is older than {LOWEST}, the oldest that this service is for"}
    from mlflow_service import application
    from mlflow_service.compat import patches
    from mlflow_service.compat.ground import Ground

    try:
        application.import_everything()
        import mlflow.server.auth  # noqa: F401
    except Exception as error:
        return {**found, "refused": _does_not_import(error)}
    ground = Ground(patches.ALL, left_out)
    refused = f"MLflow {VERSION} can't be served: {ground.refused}" if ground.refused else ""
    return {**found, "patches": ground.found, "left_out": ground.left_out, "refused": refused}


def _does_not_import(error):
    return f"MLflow does not import here: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def fingerprints():
    """Of each function that a patch replaces, what it is here, by its name."""
    from mlflow_service.compat import patches
    from mlflow_service.compat.ground import Moved, fingerprint

    found = {}
    for name in sorted({name for patch in (*patches.ALL, *patches.OF_JOBS) for name in patch.replaces}):
        try:
            found[name] = fingerprint(name)
        except Moved:
            continue
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="all of it, for programs")
    parser.add_argument("--left-out", default="", help="shortcuts that are to be left out, or all")
    parser.add_argument("--fingerprints", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Some modules say something while they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        found = fingerprints() if arguments.fingerprints else look(tuple(filter(None, arguments.left_out.split(","))))
    if arguments.fingerprints:
        print(json.dumps(found, indent=1))
        return 0
    if arguments.json:
        print(json.dumps(found))
    else:
        for patch in found["patches"]:
            state = "used" if patch["used"] else f"left out: {patch['why']}"
            print(f"{patch['name']:<14}{patch['kind']:<10}{state}")
        print(found["refused"] or f"MLflow {found['version']} can be served.")
    return 1 if found["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
