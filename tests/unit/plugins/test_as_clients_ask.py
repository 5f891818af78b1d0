# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The modules that ask MLflow ask as its clients do."""

from __future__ import annotations

import io

from plugin_support import plugin


class Web:
    """Notes what it is asked and answers what both modules take for a yes."""

    def __init__(self):
        self.asked = []

    def __call__(self, url, **options):
        self.asked.append((url, options))
        answer = io.BytesIO(b'{"ready": true, "checks": {"database": "ok"}}')
        answer.code = 200
        return answer


def test_a_name_is_asked_for_in_lower_case():
    """Clients do so, and a server that lets in the name as somebody wrote it lets none of them in."""
    web = Web()
    plugin("modules", "mlflow_ready").Server("https://127.0.0.1:8443", web, host="MLflow.Example.com:8443").check()
    plugin("modules", "mlflow_user_password").Account("https://127.0.0.1", "admin", web, "MLflow.Example.com:8443").takes("x")
    assert {options["headers"]["Host"] for dummy, options in web.asked} == {"mlflow.example.com:8443"}
    assert len(web.asked) == 3
