"""The columns of rows, as their JSON Schema says them: for Arrow, ``datasets`` and people.

A reader of JSON guesses types from the first rows: from an empty list or a null it cannot. The
schema that lies beside every JSONL file says them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput, MissingArtifact
from wmtp_assets.base.strict_json import parse_object, read_small

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features
    from pydantic import BaseModel

SCHEMA_NAME = "schema.json"
"""Name of the schema of the rows in a folder."""

EVALUATION_SUFFIX = "_eval"
EVALUATION_SCHEMA_NAME = "evaluation_schema.json"
"""Name of the schema of the evaluation rows, ``{split}_eval.jsonl``, in a folder."""

_SCALARS = {"string": "string", "integer": "int64", "number": "float64", "boolean": "bool"}


def arrow_schema(schema: Mapping[str, Any]) -> pa.Schema:
    """The columns of rows with a JSON Schema, in its order; all may be null.

    Args:
        schema: of an object, as pydantic writes it: scalars, arrays, objects, ``$ref`` into
            ``$defs``, and ``anyOf`` of one type and null.

    Raises:
        ValueError: naming what is none of these.
    """
    import pyarrow as pa

    return pa.schema(list(_struct(schema, schema.get("$defs", {}))))


def _struct(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> pa.StructType:
    import pyarrow as pa

    return pa.struct(
        [(name, _arrow_type(inner, shared)) for name, inner in schema["properties"].items()]
    )


def _arrow_type(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> pa.DataType:
    import pyarrow as pa

    if "$ref" in schema:
        return _arrow_type(_referred(schema, shared), shared)
    if "anyOf" in schema:
        (schema,) = (choice for choice in schema["anyOf"] if choice != {"type": "null"})
        return _arrow_type(schema, shared)
    if schema.get("type") == "array":
        return pa.list_(_arrow_type(schema["items"], shared))
    if schema.get("type") == "object":
        return _struct(schema, shared)
    if schema.get("type") not in _SCALARS:
        raise ValueError(f"no column has the type {schema.get('type')!r}")
    return pa.type_for_alias(_SCALARS[schema["type"]])


def features(path: str | Path) -> Features:
    """The columns of a JSONL file, for ``load_dataset("json", data_files=…, features=…)``.

    Works on a copy of the folder too: what it needs is ``schema.json`` beside the file, or
    ``evaluation_schema.json`` for evaluation rows.

    Args:
        path: of a split's rows, pairs, evaluation rows or small rows. It need not be there itself.

    Raises:
        MissingArtifact: if no schema lies beside it.
        InvalidInput: naming the schema, if it is none that is written here.
    """
    from datasets import Features

    path = Path(path)
    is_evaluation = path.stem.endswith(EVALUATION_SUFFIX)
    beside = path.with_name(EVALUATION_SCHEMA_NAME if is_evaluation else SCHEMA_NAME)
    try:
        found = arrow_schema(parse_object(read_small(beside)))
    except FileNotFoundError as error:
        raise MissingArtifact(
            f"{beside} does not exist: it says the columns of {path.name}. See what is there with: "
            "wmtp status"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{beside}: not the schema of rows: {error}") from error
    return Features.from_arrow_schema(found)


def fields_of(
    schema: Mapping[str, Any], above: str = "", shared: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Name, type and meaning of each field that a JSON Schema of an object has; after a nested
    object its fields, as ``object.field``."""
    known: Mapping[str, Any] = shared or schema.get("$defs", {})
    for name, field in schema["properties"].items():
        types = [item.get("type", "object") for item in field.get("anyOf", [field])]
        yield f"{above}{name}", " or ".join(types), field.get("description", "")
        if "$ref" in field:
            yield from fields_of(_referred(field, known), f"{above}{name}.", known)


MEANINGS = {
    "difficulty": "lower case; 'unknown': upstream has none",
    "has_tests": "whether upstream has tests that judge a solution",
    "is_correct": "whether upstream lists the solution among the correct ones",
    "metadata": "facts about the problem: the columns that follow",
    "problem_id": "which problem: rows of one problem have the same",
}
"""Field → its meaning, where the record does not say it: the same in every dataset.

A description in the record is part of ``schema.json``, whose bytes would then be others.
"""


def columns_of(record: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """As :func:`fields_of`, of a record, with a meaning for each field that has none there."""
    for name, type_, meaning in fields_of(record.model_json_schema()):
        yield name, type_, meaning or MEANINGS.get(name.rpartition(".")[2], "")


def _referred(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    return shared[schema["$ref"].rpartition("/")[2]]
