# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Where the deployed server is to answer otherwise than a plain one, and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

used = Counter()


@dataclass(frozen=True)
class Meant:
    why: str
    #: Of "METHOD route".
    route: re.Pattern
    #: Told (ours, plain), whether this is the difference that is meant.
    is_it: object

    def fits(self, method, route, ours, plain):
        return bool(self.route.fullmatch(f"{method} {route}") and self.is_it(ours, plain))


MEANT = []


def reason(method, route, ours, plain):
    """Why these two answers may differ; nothing where nobody has said so."""
    for one in MEANT:
        if one.fits(method, route, ours, plain):
            used[one.why] += 1
            return one.why
    return None
