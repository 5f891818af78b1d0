# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Is there a registered model with this alias on the MLflow server of the environment?

    python bin/_registered.py MODEL ALIAS

Exit code 0: yes. 1: no. 2: the server did not answer as one. Standard library only, so
that bin/quickstart may ask before the client is installed.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request


def main() -> int:
    model, alias = sys.argv[1:3]
    server = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    who = f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/registered-models/alias?" + urllib.parse.urlencode({"name": model, "alias": alias}),
        headers={"Authorization": "Basic " + base64.b64encode(who.encode()).decode()},
    )
    try:
        with urllib.request.urlopen(request, timeout=30, context=context):
            return 0
    except urllib.error.HTTPError as error:
        try:
            code = json.load(error)["error_code"]
        except (ValueError, KeyError):
            code = None
        if code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return 1
        print(f"{server} answered {error.code} {error.reason}.", file=sys.stderr)
    except OSError as error:
        print(f"{server} did not answer: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
