"""The JSON schema of params.yaml as a file, for completion and checks in editors."""

from __future__ import annotations

import json

from imbnas.params.config import schema


def schema_text() -> str:
    """Return the schema as indented JSON, the content of params.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
