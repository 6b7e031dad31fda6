"""``croissant.json`` of a dataset: Croissant metadata (mlcommons.org/croissant) of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from wmtp_assets.base.text import json_text
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.process import split_file
from wmtp_assets.datasets.records import format_of
from wmtp_assets.datasets.twin import twin_file
from wmtp_assets.documents.document import SAMPLE, DocumentType, Fact, Facts
from wmtp_assets.storage.manifest import Document

_CONTEXT: Document = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of Croissant 1.0, as its specification has it."""

_TYPES = {str: "sc:Text", bool: "sc:Boolean", int: "sc:Integer", float: "sc:Float"}


def as_json(document: Document) -> bytes:
    """The bytes of a document that people look at too: what is not printed is an escape."""
    return f"{json_text(document)}\n".encode()


def croissant(facts: Facts) -> bytes:
    """The document: its files with hashes, and a record set per split."""
    spec: DatasetSpec = facts.about.spec
    processed = facts.one("processed")
    sample = f"{SAMPLE} " if facts.is_sample else ""
    record = format_of(spec).record
    return as_json(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": spec.name,
            "description": f"{sample}{spec.description}",
            "license": spec.repository.license,
            **({"url": spec.repository.page} if spec.repository.page else {}),
            "version": str(processed.stated("version")).removeprefix("v"),
            "isLiveDataset": False,
            **({"citeAs": spec.citation} if spec.citation else {}),
            "distribution": [
                file for split in spec.processed_splits for file in _files(processed, split)
            ],
            "recordSet": [
                {
                    "@type": "cr:RecordSet",
                    "@id": split,
                    "name": split,
                    "description": record.__doc__,
                    "field": list(_fields(record, split, split, ())),
                }
                for split in spec.processed_splits
            ],
        }
    )


def _files(processed: Fact, split: str) -> Iterator[Document]:
    """The rows of a split as JSON Lines, and their Parquet twin."""
    for name, encoding in (
        (split_file(split), "application/jsonlines"),
        (twin_file(split), "application/x-parquet"),
    ):
        record = processed.file(name)
        if record is not None:
            yield {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{record.size} B",
                "encodingFormat": encoding,
                "sha256": record.sha256,
            }


def _fields(
    record: type[BaseModel], split: str, parent: str, path: tuple[str, ...]
) -> Iterator[Document]:
    """The fields of a record, and below a nested record those of that."""
    for name, field in record.model_fields.items():
        inner = field.annotation
        identifier = f"{parent}/{name}"
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, split, identifier, (*path, name))
            continue
        kind, repeated = _type_of(inner)
        column, *below = (*path, name)
        yield {
            "@type": "cr:Field",
            "@id": identifier,
            "name": identifier.removeprefix(f"{split}/"),
            **({"description": field.description} if field.description else {}),
            "dataType": kind,
            **({"repeated": True} if repeated else {}),
            "source": {
                "fileObject": {"@id": split_file(split)},
                "extract": {"column": column},
                **({"transform": {"jsonPath": ".".join(("$", *below))}} if below else {}),
            },
        }


def _type_of(annotation: Any) -> tuple[str, bool]:
    """Croissant's name of a type, and whether it is of a list's members."""
    if get_origin(annotation) is list:
        return _type_of(get_args(annotation)[0])[0], True
    if get_origin(annotation) in (UnionType,):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    return _TYPES.get(annotation, _TYPES[str]), False


DOCUMENT = DocumentType("croissant.json", croissant)
