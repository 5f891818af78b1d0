# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Which requests a read replica may answer, which may be behind: those that search.

Whoever asks for one thing by its id or its name has perhaps just made it, and so has whoever writes to it.
"""

import contextvars
import re

# By method, since traces are started where they are searched.
SEARCH = re.compile(
    r"(GET|POST) /(ajax-)?api/[0-9.]+/?mlflow/("
    r"(experiments|runs|logged-models|registered-models|model-versions|datasets|issues|traces)/search"
    r"|experiments/search-datasets|metrics/get-history-bulk(-interval)?|traces/(metrics|calculate-filter-correlation))"
    r"|GET /(ajax-)?api/2\.0/mlflow/(unified-)?traces"
)

_searches = contextvars.ContextVar("mlflow_searches", default=False)


def is_search():
    """Whether the request that is carried out is a search; outside of one it is none."""
    return _searches.get()


class Searches:
    """An ASGI application that tells searches from the rest, and leaves all to another one."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        found = scope["type"] == "http" and SEARCH.fullmatch(f"{scope['method']} {scope['path']}") is not None
        token = _searches.set(found)
        try:
            await self._app(scope, receive, send)
        finally:
            _searches.reset(token)
