"""What OpenAI asks of a tool's JSON schema and other APIs do not."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def with_properties(schema: Json) -> Json:
    """OpenAI refuses a tool whose schema is an object without `properties` ("object schema missing properties")."""
    if schema.get("type") != "object" or schema.get("properties") is not None:
        return schema
    return {**schema, "properties": {}}
