# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The error that a person sees as one line."""


class LocalCloudError(Exception):
    """Something the user can act on; the command line prints it without a traceback."""
