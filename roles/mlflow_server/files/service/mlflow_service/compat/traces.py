# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""How large a trace may become when it is unpacked."""

import zlib

from mlflow_service.compat.ground import GUARD, Patch
from mlflow_service.http.bodies import EXPANSION, MIB, TooLarge, expand, limit

PATCH = Patch(
    "traces",
    "a trace that is sent compressed is unpacked up to a size",
    kind=GUARD,
    uses=("mlflow.server.otel_api:decompress_otlp_body",),
)


def bound_expansion():
    """Let MLflow's route for traces unpack no more than a bounded size: 32 MiB of gzip may be 32 GiB of zeros."""
    from fastapi import HTTPException
    from mlflow.server import otel_api

    maximum = EXPANSION * limit()
    unpacks = otel_api.decompress_otlp_body

    def decompress_otlp_body(raw_body, content_encoding):
        if content_encoding not in ("gzip", "deflate"):
            return unpacks(raw_body, content_encoding)
        try:
            return expand(raw_body, content_encoding, maximum)
        except TooLarge:
            raise HTTPException(413, f"The body is more than {maximum // MIB} MiB when it is unpacked.") from None
        except zlib.error:
            raise HTTPException(400, f"Failed to decompress {content_encoding} payload") from None

    otel_api.decompress_otlp_body = decompress_otlp_body
