# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which addresses a user may name, where the server then reads or writes them with its own credentials.

Artifacts pass through the server, so all that an honest user names is an address on it: mlflow-artifacts:, runs: or
models:. MLflow takes others, too, and then reads any bucket that the server may read, and within its own bucket what is of
experiments that are closed to the user. Here:

- The source of a model version is one of those three kinds, or what MLflow itself writes for a prompt.
- The artifact location of an experiment that a user makes (not an administrator) is on this server, and is not the place
  that MLflow gives to an experiment by itself. Nobody's is on the host.
- Where the data of a trace is, follows from its experiment and its name, as MLflow makes it; a tag says nothing about it.
- Traces are not archived (that is switched off), so no trace can say that it is in an archive somewhere.

What was there before stays as it is.
"""

import re

SOURCES = r"(mlflow-artifacts|runs|models):/(?!/)"
# MLflow's own places are /1, /2, … and with workspaces /workspaces/NAME/1. A slash may be written in more ways than one.
LOCATION = re.compile(r"mlflow-artifacts:/(?P<first>[^/]+)(/.*)?")
# MLflow takes a path, file: and dbfs: for places on the machine that it runs on.
KINDS = re.compile(r"(mlflow-artifacts:/|(s3|gs|wasbs?|abfss?|r2|b2)://)")
RESERVED = re.compile(r"\d+|workspaces|\.{1,2}")


def location_problem(location):
    """Why a user may not have this as an artifact location, or nothing."""
    found = LOCATION.fullmatch(location)
    if not found:
        return "it must be on this server, as mlflow-artifacts:/NAME"
    if re.search(r"[%\\?#\s]|/\.{1,2}(/|$)|//", location):
        return "it must be a plain path, without %, \\, ?, #, spaces, // or .. in it"
    if RESERVED.fullmatch(found["first"]):
        return f"mlflow-artifacts:/{found['first']} is for places that MLflow gives itself"
    return None


def kind_problem(location):
    """The same for an administrator, and for anybody where nobody logs in: not even he is on the host."""
    if KINDS.match(location):
        return None
    return "it must be on this server (mlflow-artifacts:/NAME) or in an artifact store (such as s3://BUCKET/NAME)"
