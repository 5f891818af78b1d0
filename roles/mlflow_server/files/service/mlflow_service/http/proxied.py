# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Clients are not offered to go to the artifact store themselves: they need reach nothing but this server.

MLflow offers that by itself wherever the store can sign an address, and a client that can't reach or does not trust the store
then fails instead of asking the server for the file.
"""

import json
import re

INFO = re.compile(r"/(ajax-)?api/3\.0/mlflow/server-info/?")


class Proxied:
    """An ASGI application that says no where another one offers multipart transfers to and from the store."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or not INFO.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        begin, parts = {}, []

        async def look(message):
            if message["type"] == "http.response.start":
                begin.update(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                body = without_offers(b"".join(parts)) if begin["status"] == 200 else b"".join(parts)
                headers = [(name, value) for name, value in begin["headers"] if name != b"content-length"]
                headers.append((b"content-length", str(len(body)).encode()))
                await send({**begin, "headers": headers})
                await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, look)


def without_offers(body):
    """What the server says of itself, in JSON, without offers; as it is where it is something else."""
    try:
        said = json.loads(body)
    except ValueError:
        return body
    if not isinstance(said, dict):
        return body
    return json.dumps({name: False if "multipart" in name else value for name, value in said.items()}).encode()
