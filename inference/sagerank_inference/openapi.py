"""The schema of the HTTP API: every route, and the bodies of every dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .dialects import CSV, DIALECTS, JSON, JSON_LINES, ROUTES, SHARED

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def describe(version: str) -> dict[str, object]:
    """Return an OpenAPI 3.1 document."""
    described = {name: dialect for name, dialect in DIALECTS.items() if dialect.example}
    references = {name: {"$ref": f"#/components/schemas/{name}"} for name in described}
    paths: dict[str, object] = {}
    for path in ROUTES:
        own = [name for name, dialect in described.items() if dialect.on(path)]
        names = list(described) if path in SHARED else own
        schema = {"anyOf": [references[name] for name in names]} if len(names) != 1 else references[names[0]]
        examples = {name: {"value": described[name].example} for name in names}
        content: dict[str, object] = {JSON: {"schema": schema, "examples": examples}}
        if path in SHARED:
            content |= {JSON_LINES: {"schema": {"type": "string"}}, CSV: {"schema": {"type": "string"}}}
        paths[path] = {
            "post": {
                "summary": "Rank documents for a query",
                "requestBody": {"required": True, "content": content},
                "responses": {
                    "200": {"description": "Scores, in the form of the request's dialect"},
                    "default": {
                        "description": "One sentence that says what to change, in the dialect's error form"
                    },
                },
            }
            | _parameters(path)
        }
    schemas = {
        name: _schema(dialect.example) | {"required": [key for key in dialect.keys if key in dialect.example]}
        for name, dialect in described.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sagerank", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _parameters(path: str) -> dict[str, object]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    return {"parameters": parameters} if parameters else {}


def _schema(example: Any) -> dict[str, object]:
    """Return the schema of values like this one."""
    if isinstance(example, Mapping):
        return {"type": "object", "properties": {key: _schema(value) for key, value in example.items()}}
    if isinstance(example, list):
        return {"type": "array", "items": _schema(example[0])}
    return {"type": _TYPES[type(example)]}
