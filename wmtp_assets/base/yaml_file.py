"""Reading a YAML file that may be damaged or hostile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import isclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import message_of
from wmtp_assets.base.strict_json import read_small, short

M = TypeVar("M", bound=BaseModel)

MAX_SIZE = 32 << 10
"""Bytes: PyYAML needs a second for 100 kB; ours have a few."""

NOT_YAML = (
    ValueError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    RecursionError,
    yaml.YAMLError,
)
"""What PyYAML raises of a text that it cannot read: of a number such as ``1:30`` to the base of 60
that is too large, of a tag whose value is none."""

MAX_NESTED = 100
"""Lists and maps in brackets; we write none but empty ones."""


_MISREAD = {
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?(?:0|[1-9][0-9]*)"), "the number {value}"),
    "tag:yaml.org,2002:float": (re.compile(r"[^:_]+"), "the number {value}"),
    "tag:yaml.org,2002:bool": (re.compile(r"(?i:true|false)"), "{value}"),
    "tag:yaml.org,2002:timestamp": (re.compile(r"(?!)"), "a date, by some programs"),
}
"""What YAML 1.1 reads in a bare word → how it is written where everybody reads that, and as what it
is read. See https://yaml.org/type/int.html, float.html, bool.html and timestamp.html."""


def parse_yaml(data: bytes | str) -> Any:
    """The document in a YAML text, in which each bare word means what it says: ``1:30`` is 90 in
    YAML 1.1, ``010`` is 8, ``no`` is false, and ``2025-01-01`` a date or a text.

    Raises:
        yaml.YAMLError: if it is not YAML, or has such a word without quotes, with its line.
        Exception: one of :data:`NOT_YAML`.
    """
    loader = yaml.SafeLoader(data)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _require_plain(loader, root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _require_plain(loader: yaml.SafeLoader, root: yaml.Node) -> None:
    left, seen = [root], set[int]()
    while left:
        node = left.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            left += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
        elif node.tag in _MISREAD:
            as_it_is_written, read_as = _MISREAD[node.tag]
            if not as_it_is_written.fullmatch(node.value):
                value = loader.construct_object(node) if "{value}" in read_as else ""
                raise yaml.MarkedYAMLError(
                    problem=f"{short(node.value)} is read as {read_as.format(value=short(value))} "
                    f"in YAML 1.1: put it in quotes if it is text, else write what you mean",
                    problem_mark=node.start_mark,
                )


def read_yaml(path: Path) -> Any:
    """The document in one of our YAML files.

    Raises:
        InvalidInput: saying what is wrong with it.
        OSError: if it cannot be read.
    """
    try:
        data = read_small(path, MAX_SIZE)
    except ValueError as error:
        raise InvalidInput(f"not YAML: {error}") from error
    if data.count(b"[") + data.count(b"{") > MAX_NESTED:
        raise InvalidInput(f"not YAML: more than {MAX_NESTED} brackets")
    if set(data) & set(b"&*!"):  # they can grow without bound; we write none
        raise InvalidInput("not plain YAML: an anchor, an alias or a tag")
    try:
        return parse_yaml(data)
    except NOT_YAML as error:
        raise InvalidInput(f"not YAML: {' '.join(str(error).split())}") from error


def read_model(path: Path, model: type[M]) -> M:
    """A YAML file that people edit, as a ``model``. Every value in it is text: ``no`` is a word.

    Raises:
        InvalidInput: naming file, line and field; of an unknown field also the known ones.
    """
    root = None
    try:
        data = read_small(path, MAX_SIZE)
        for event in yaml.parse(data, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # can expand without bound
                raise yaml.MarkedYAMLError(problem="an alias", problem_mark=event.start_mark)
        loader = yaml.BaseLoader(data)  # builds text, lists and maps, and nothing else
        root = loader.get_single_node()
        _require_distinct(root)
        return model.model_validate(None if root is None else loader.construct_document(root))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}; put it back") from error
    except ValidationError as error:
        first = error.errors()[0]
        field, problem = ".".join(map(str, first["loc"])), message_of(first)
        if first["type"] == "extra_forbidden":
            known = ", ".join(_model_at(model, first["loc"][:-1]).model_fields)
            problem = f"unknown field; known fields: {known}"
        place = ": ".join(filter(None, (field, problem)))
        raise InvalidInput(f"{path}:{_line_of(root, first['loc'])}: {place}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(f"{path}:{line}: not YAML: {error.problem}") from error
    except NOT_YAML as error:
        raise InvalidInput(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def _require_distinct(node: Any) -> None:
    """Require that no map below a node has a key twice, which a loader would not say."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key that is a list or a map", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark
                )
            seen.add(key.value)
            _require_distinct(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _require_distinct(item)


def _line_of(node: Any, path: Sequence[str | int]) -> int:
    """The line, from 1, of what is at a path of keys; of what it would be in, where it is not."""
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [item for item in node.value if item[0].value == part]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """The model of what is at a path of keys in a ``model``, lists and maps of models included."""
    for key in path:
        if isinstance(key, str) and key in model.model_fields:
            annotation = model.model_fields[key].annotation
            types = (annotation, *get_args(annotation))
            model = next(it for it in types if isclass(it) and issubclass(it, BaseModel))
    return model
