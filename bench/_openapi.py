# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Print an OpenAPI document of all that an MLflow server answers. bench/_fuzz.py runs this in the server's own environment, so
that it is about the MLflow that is served.

FastAPI has such a document. MLflow's own handlers have none, but the messages that they read are declared as protocol
buffers, which name path, method and fields. What is left are Flask's routes without a message (users, permissions, the page,
artifacts), of which only the path is known.
"""

import json
import os
import re
import sys
import tempfile

DEEPEST = 4
SCALARS = {
    "INT32": {"type": "integer"},
    "INT64": {"type": "integer"},
    "UINT32": {"type": "integer", "minimum": 0},
    "UINT64": {"type": "integer", "minimum": 0},
    "SINT64": {"type": "integer"},
    "DOUBLE": {"type": "number"},
    "FLOAT": {"type": "number"},
    "BOOL": {"type": "boolean"},
    "STRING": {"type": "string"},
    "BYTES": {"type": "string"},
}
WELL_KNOWN = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "enum": ["1.5s", "0s", "-1s"]},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.FieldMask": {"type": "string"},
}
# What MLflow's handlers without a message read from a query or a body.
GUESSED = [
    "username", "password", "permission", "is_admin", "experiment_id", "name", "model_name", "run_id", "run_uuid", "path",
    "version", "model_id", "trace_id", "request_id", "workspace", "role", "scorer_name", "artifact_path", "page_token",
    "max_results", "filter", "artifact_file_path", "run_ids", "metric_key", "start_step", "end_step", "query",
]  # fmt: skip


def environment():
    """An MLflow that touches nothing of the server's."""
    folder = tempfile.mkdtemp()
    with open(f"{folder}/auth.ini", "w", encoding="utf-8") as file:
        file.write(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
    os.environ.update(
        MLFLOW_AUTH_CONFIG_PATH=f"{folder}/auth.ini",
        MLFLOW_FLASK_SERVER_SECRET_KEY="x" * 32,
        MLFLOW_DISABLE_TELEMETRY="true",
        _MLFLOW_AUTH_ADMIN_BOOTSTRAPPED="true",
        _MLFLOW_SGI_NAME="uvicorn",
        _MLFLOW_SERVER_FILE_STORE=f"sqlite:///{folder}/mlflow.db",
        _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
        _MLFLOW_SERVER_ARTIFACT_ROOT="mlflow-artifacts:/",
        _MLFLOW_SERVER_ARTIFACT_DESTINATION=f"{folder}/artifacts",
    )


def of_message(message, required, depth=0):
    """The JSON schema of a message."""
    if message.full_name in WELL_KNOWN:
        return WELL_KNOWN[message.full_name]
    if depth == DEEPEST:
        return {"type": "object"}
    properties = {field.name: of_field(field, required, depth) for field in message.fields}
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in message.fields if required(field)],
        "additionalProperties": False,
    }


def of_field(field, required, depth):
    kinds = {getattr(field, name): name.removeprefix("TYPE_") for name in dir(field) if name.startswith("TYPE_")}
    kind = kinds[field.type]
    if kind in ("MESSAGE", "GROUP"):
        if field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            return {"type": "object", "additionalProperties": of_field(value, required, depth)}
        found = of_message(field.message_type, required, depth + 1)
    elif kind == "ENUM":
        found = {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    else:
        found = SCALARS.get(kind, {"type": "string"})
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
    return {"type": "array", "items": found, "maxItems": 3} if repeated else found


def operation(path, method, message):
    """An operation whose path is in OpenAPI's way of writing."""
    in_path = re.findall(r"{(\w+)}", path)
    properties = message.get("properties", {})
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in in_path
    ]
    found = {"operationId": f"{method} {path}", "responses": {"default": {"description": "any"}}, "parameters": parameters}
    if method in ("GET", "DELETE") and not (method == "DELETE" and properties):
        parameters += [
            {"name": name, "in": "query", "required": name in message.get("required", []), "schema": schema}
            for name, schema in properties.items()
            if name not in in_path and schema.get("type") != "object"
        ]
    elif method != "GET":
        found["requestBody"] = {"content": {"application/json": {"schema": message or {"type": "object"}}}}
    return found


def of_protos(paths):
    from mlflow.protos import databricks_pb2
    from mlflow.protos.mlflow_artifacts_pb2 import MlflowArtifactsService
    from mlflow.protos.model_registry_pb2 import ModelRegistryService
    from mlflow.protos.service_pb2 import MlflowService
    from mlflow.protos.webhooks_pb2 import WebhookService

    def required(field):
        return field.GetOptions().Extensions[databricks_pb2.validate_required]

    for service in (MlflowService, ModelRegistryService, MlflowArtifactsService, WebhookService):
        for call in service.DESCRIPTOR.methods:
            for endpoint in call.GetOptions().Extensions[databricks_pb2.rpc].endpoints:
                path = f"/api/{endpoint.since.major}.0{endpoint.path}".replace("{assessment.trace_id}", "{trace_id}")
                path = in_openapi(path)
                paths.setdefault(path, {})[endpoint.method.lower()] = operation(
                    path, endpoint.method, of_message(call.input_type, required)
                )


def in_openapi(path):
    """Flask's <path:name> as {name}."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)


def of_flask(paths, app):
    """The routes that no message stands for; what the web page's own prefix repeats is left out."""
    names = {"properties": {name: {"type": "string"} for name in GUESSED}}
    for rule in app.url_map.iter_rules():
        path = in_openapi(rule.rule)
        known = {re.sub(r"{\w+}", "{}", other) for other in paths}
        if {re.sub(r"{\w+}", "{}", path), re.sub(r"{\w+}", "{}", path.replace("/ajax-api/", "/api/"))} & known:
            continue
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = operation(path, method, {"type": "object", **names})


def main():
    # The libraries print; what is read is the last line.
    environment()
    from mlflow.server import app as flask_app
    from mlflow.server.auth import create_app

    app = create_app()
    paths = {}
    of_protos(paths)
    of_flask(paths, flask_app)
    native = app.openapi()
    for path, operations in native["paths"].items():
        if not path.startswith("/ajax-api/") or path.replace("/ajax-api/", "/api/") not in native["paths"]:
            paths.setdefault(path, {}).update(operations)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "MLflow", "version": "1"},
        "paths": paths,
        "components": native.get("components", {}),
    }
    sys.stdout.write("\n" + json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
