# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Run on a host with MLflow's own Python: what the services of its protocol buffers and its FastAPI routes take, and what GraphQL
has, as JSON.

{"fields": {"METHOD path": {field: [type, whether it is repeated]}}, "graphql": [name of a query or mutation]}
"""

import json

from google.protobuf.descriptor import FieldDescriptor
from mlflow.protos import databricks_pb2
from mlflow.server import handlers

TYPES = {
    FieldDescriptor.CPPTYPE_INT32: "integer", FieldDescriptor.CPPTYPE_INT64: "integer", FieldDescriptor.CPPTYPE_UINT32: "integer",
    FieldDescriptor.CPPTYPE_UINT64: "integer", FieldDescriptor.CPPTYPE_DOUBLE: "number", FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_BOOL: "boolean", FieldDescriptor.CPPTYPE_ENUM: "enum", FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_MESSAGE: "object",
}  # fmt: skip


def is_repeated(field):
    # Newer protobufs say so by a property, and warn of the label.
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def fields():
    found = {}
    names = ("MlflowService", "ModelRegistryService", "MlflowArtifactsService", "WebhookService")
    for service in (getattr(handlers, name) for name in names):
        for method in service.DESCRIPTOR.methods:
            message = service().GetRequestClass(method).DESCRIPTOR
            for endpoint in method.GetOptions().Extensions[databricks_pb2.rpc].endpoints:
                for path in handlers._get_paths(endpoint.path, version=endpoint.since.major):
                    found[f"{endpoint.method} {path}"] = {
                        field.name: [TYPES[field.cpp_type], is_repeated(field)] for field in message.fields
                    }
    return found


def native_fields():
    """The same of FastAPI's routes, by the description of them that it makes for OpenAPI."""
    from mlflow.server.fastapi_app import create_fastapi_app

    described = create_fastapi_app().openapi()
    models = described.get("components", {}).get("schemas", {})
    found = {}
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            taken = {it["name"]: it["schema"] for it in call.get("parameters", []) if it["in"] == "query"}
            for content in call.get("requestBody", {}).get("content", {}).values():
                model = models.get(content["schema"].get("$ref", "").rpartition("/")[2], {})
                # A call is made with the one or the other: see things.request.
                taken |= model.get("properties", {}) if method.upper() != "GET" else {}
            kinds = {
                name: [one.get("type") for one in (schema, *schema.get("anyOf", ())) if one.get("type") != "null"]
                for name, schema in taken.items()
            }
            found[f"{method.upper()} {path.replace('{', '<').replace('}', '>')}"] = {
                name: [next(filter(None, kind), "object"), "array" in kind] for name, kind in kinds.items()
            }
    return found


def graphql():
    from mlflow.server.graphql.graphql_schema_extensions import schema

    types = [schema.query, schema.mutation]
    return sorted({name for kind in types if kind for name in kind._meta.fields})


print("CALLS " + json.dumps({"fields": native_fields() | fields(), "graphql": graphql()}))
