# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How many requests a worker works on at a time, and whose."""

import asyncio
import re

from mlflow_service.http.bodies import Budget, answer, owner_of
from mlflow_service.http.logins import GATEWAY, refusal_of
from mlflow_service.transfer.streams import is_stream

# What asks the artifact store while Flask waits for it: lists, files of the web page, and all of the proxy's but its streams.
STORE = re.compile(
    r"/(ajax-)?api/[0-9.]+/("
    r"mlflow-artifacts/.*|mlflow/(artifacts/(list|presigned-[a-z-]+)|get-trace-artifact|upload-artifact|logged-models/[^/]+/artifacts/.*)"
    r")|/get-artifact|/model-versions/get-artifact"
)
# How many may ask the store at once, and for how many seconds others wait for that. One user has half of it at most.
STORE_TURNS, STORE_WAIT = 8, 30.0
# It may list artifacts too, whatever else it asks.
GRAPHQL, GRAPHQL_TURNS = "/graphql", 4
# A model may take minutes for an answer, and meanwhile asks nothing of the database. One user has half of these at most.
GATEWAY_TURNS = 64
# Of all turns, those that one user may have at most.
MOST = 3 / 4


class Admission:
    """Lets no more requests at a time into a worker than its pools can serve; the others wait for their turn.

    Many of MLflow's requests take a second connection while they hold a first one. As many requests as a pool has
    connections can then hold all of them and wait for one another, until they fail after 30 seconds. With one less in, one of
    them always goes on.

    What needs the artifact store has turns of its own: it needs the database for a moment only, and a store that does not
    answer must not stop those who log metrics.

    One user has most of the turns and never all of them, so that his long searches leave room for others.
    """

    FREE = ("/static-files/", "/health")

    def __init__(self, app, connections, passes=is_stream):
        """
        :arg passes: Whether a request's artifact passes through in parts, which has a budget and threads of its own.
        """
        self._app, self._passes = app, passes
        self._limit = max(connections - 1, 1)
        self._turns = self._graphql = self._store = self._gateway = None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Made here, since they belong to the loop that runs.
        if self._turns is None:
            self._turns = Budget(self._limit, max(int(self._limit * MOST), min(self._limit, 2)))
            self._graphql = asyncio.Semaphore(min(GRAPHQL_TURNS, self._limit))
            self._store = Budget(STORE_TURNS)
            self._gateway = Budget(GATEWAY_TURNS)
        path = scope["path"]
        if path.startswith(self.FREE) or self._passes(scope):
            await self._carry_out(scope, receive, send)
        elif STORE.fullmatch(path):
            await self._with_the_store(scope, receive, send)
        elif path.startswith(GATEWAY):
            owner = owner_of(scope)
            await self._gateway.acquire(1, owner)
            await self._with_one_of(self._gateway, owner, scope, receive, send)
        elif path == GRAPHQL:
            async with self._graphql:
                await self._in_turn(scope, receive, send)
        else:
            await self._in_turn(scope, receive, send)

    async def _in_turn(self, scope, receive, send):
        owner = owner_of(scope)
        await self._turns.acquire(1, owner)
        await self._with_one_of(self._turns, owner, scope, receive, send)

    async def _with_the_store(self, scope, receive, send):
        owner = owner_of(scope)
        try:
            async with asyncio.timeout(STORE_WAIT):
                await self._store.acquire(1, owner)
        except TimeoutError:
            said = b"The artifact store is slow, and others are waiting for it already; try again."
            await answer(send, 503, said, [(b"retry-after", b"10")])
            return
        await self._with_one_of(self._store, owner, scope, receive, send)

    async def _with_one_of(self, turns, owner, scope, receive, send):
        """With a turn that was taken, and is given back."""
        try:
            await self._carry_out(scope, receive, send)
        finally:
            turns.release(1, owner)

    async def _carry_out(self, scope, receive, send):
        # Here and not before: whoever lost a right while the request waited must not get it carried out.
        refusal = await refusal_of(scope)
        if refusal:
            await answer(send, *refusal)
        else:
            await self._app(scope, receive, send)
