# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The templates of mlflow_server as they are filled in, with what a test has not given by its name."""

from __future__ import annotations

import json
import re

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from repository import ROOT, load_yaml

ROLE = ROOT / "roles" / "mlflow_server"
DEFAULTS = load_yaml(ROLE / "defaults" / "main.yml")
PLAIN = {name: value for name, value in DEFAULTS.items() if "{{" not in str(value)}
KNOWN = {
    **PLAIN,
    "ansible_managed": "managed",
    "__mlflow_server_listens": ["", "[::]:"],
    "__mlflow_server_names": ["mlflow.example.com"],
    "__mlflow_server_sans": ["DNS:mlflow.example.com", "IP Address:192.0.2.7"],
    "__mlflow_server_public_name": "mlflow.example.com",
    "__mlflow_server_distribution": {"http2_directive": True, "tls_groups": "X25519", "nginx_user": "www-data"},
    "__mlflow_server_user": "mlflow",
    "__mlflow_server_proxy_group": "mlflow-proxy",
    "__mlflow_server_home": "/var/lib/mlflow",
    "__mlflow_server_etc": "/etc/mlflow",
    "__mlflow_server_module": ["/opt/python", "-m"],
    "__mlflow_server_service_reads": ["/etc/mlflow/mlflow.env"],
    "__mlflow_server_workers": 2,
    "mlflow_server_hosts": 1,
    "mlflow_server_drain_timeout": 60,
    "mlflow_server_max_body_mib": 100,
    "mlflow_server_spool_dir": "/var/lib/mlflow/spool",
    "mlflow_server_auth_enabled": True,
    "mlflow_server_tls": "self_signed",
    "mlflow_server_trusted_proxies": [],
    "mlflow_server_metrics_allowed_cidrs": [],
}


class Named(ChainableUndefined):
    """A variable that was not given stands as its name."""

    def __str__(self) -> str:
        return f"<{self._undefined_name}>"

    __len__ = __bool__ = lambda self: 1
    __int__ = lambda self: 1  # noqa: E731


def rendered(name: str, **given) -> str:
    environment = Environment(
        loader=FileSystemLoader(ROLE / "templates"), trim_blocks=True, keep_trailing_newline=True, undefined=Named
    )
    environment.filters |= {"bool": bool, "comment": lambda text: f"# {text}", "regex_escape": re.escape, "to_json": json.dumps}
    return environment.get_template(name).render({**KNOWN, **given})


def sections(unit: str) -> dict[str, dict[str, list[str]]]:
    """The sections of a unit, and what each directive is given."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in unit.replace("\\\n", " ").splitlines():
        if section := re.fullmatch(r"\[(\w+)\]", line):
            found[section[1]] = {}
        elif line and not line.startswith("#"):
            key, _equals, value = line.partition("=")
            found[list(found)[-1]].setdefault(key, []).append(value.strip())
    return found
