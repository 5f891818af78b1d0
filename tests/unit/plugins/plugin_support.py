# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)

from __future__ import annotations

import importlib

REGION = "eu-central-1"


def plugin(kind, name):
    """A plugin of this collection, by the name it has for Ansible."""
    return importlib.import_module(f"ansible_collections.mlops.mlflow_aws.plugins.{kind}.{name}")
