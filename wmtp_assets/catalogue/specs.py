"""The typed description of every artifact family, and the reader of the ``defs.yaml`` files.

What exists is declared once, in ``defs/**/defs.yaml``. Dagster reads those files through the
components; ``wmtp`` reads the same files through :func:`load_specs`, without Dagster. They are
therefore plain YAML: no templating.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from posixpath import normpath
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.model import (
    AssetName,
    Commit,
    FolderName,
    RelativePath,
    Sha256,
    StrictModel,
    check_distinct,
    message_of,
)
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.base.text import printable
from wmtp_assets.base.yaml_file import NOT_YAML, parse_yaml

DEFS_FOLDER = Path(__file__).parents[1] / "defs"

DType = Literal["float16", "bfloat16", "float32"]
DTYPE_SUFFIXES: Mapping[DType, str] = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
"""How a dtype is called in the key and the folder of a variant."""

FamilyName = Literal["meta_mtp", "llama", "llama_reward", "transformers", "any"]
"""The first three have code here. ``transformers``: whatever a class of that library takes.
``any``: every tensor under its own name."""

TOKENIZER_FILES = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
}
"""What of upstream may be kept as it is beside the tokenizer."""

Status = Literal["required", "optional"]
Use = Literal["verifiable_critic", "baseline", "rho_1", "evaluation"]


_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(size: str) -> int:
    """The bytes that a size such as ``4 GB`` is."""
    number, unit = size.split()
    return round(float(number) * _UNITS[unit])


def hub_page(repo_type: str, repo_id: str) -> str:
    """The page of a ``model`` or ``dataset`` on huggingface.co."""
    return f"https://huggingface.co/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"


def _yes_or_no(said: Any) -> Any:
    """YAML 1.1 reads yes and no as true and false."""
    return {True: "yes", False: "no"}.get(said, said) if isinstance(said, bool) else said


Redistribution = Annotated[
    Literal["yes", "with-notice", "no"],
    BeforeValidator(_yes_or_no),
    WithJsonSchema({"enum": ["yes", "with-notice", "no", True, False]}),
]
"""Whether others may be given what is made from a repository: freely; with its licence and a notice
of what was changed; or not."""


class Repository(StrictModel):
    """A repository on the Hugging Face Hub, or a folder on this machine."""

    id: str = Field(
        pattern=r"^\w[\w.-]*/\w[\w.-]*$",
        description="owner/name on the hub; of a folder by default local/ and the folder's name",
    )
    type: Literal["model", "dataset"]
    path: str | None = Field(
        default=None,
        min_length=1,
        description="a folder that has the files, in place of the hub: absolute, or relative to "
        "the defs.yaml; ~ is the home folder",
    )
    revision: Commit | None = Field(
        default=None,
        description="the commit that is used on the real hub; null: unpinned, the head of main",
    )
    license: str = Field(description="SPDX identifier, or the licence's name")
    redistribution: Redistribution = Field(
        default="no",
        description="whether what is made from it may be given to others: yes, with-notice (with "
        "licence and notice) or no; it decides what wmtp publish sends to the hub",
    )
    gated: bool = False
    size: str = Field(
        pattern=r"^\d+(\.\d+)?( to \d+(\.\d+)?)? (kB|MB|GB)$",
        description="what the files that are used take on the real hub, about: '27 GB'",
    )

    @field_validator("path")
    @classmethod
    def _require_seen(cls, path: str | None) -> str | None:
        """No NUL, newline or bidirectional override: no system has the first, nobody sees the
        others."""
        if path and not path.isprintable():
            raise ValueError(f"{path!r} has a character that is not printed")
        return path

    @model_validator(mode="before")
    @classmethod
    def _name_the_folder(cls, said: Any) -> Any:
        """A folder needs neither name nor size."""
        if not isinstance(said, dict) or not isinstance(said.get("path"), str):
            return said
        if said.get("revision") or said.get("gated"):
            raise ValueError("revision and gated are of the hub: wmtp lock pins a folder")
        name = re.sub(r"[^\w.-]", "-", PurePath(said["path"]).name).lstrip(".-") or "folder"
        return {"id": f"local/{name}", "size": "0 kB", **said}

    @property
    def is_folder(self) -> bool:
        return self.path is not None

    @property
    def most_bytes(self) -> int:
        """The largest number of bytes that :attr:`size` says."""
        *numbers, unit = self.size.replace(" to ", " ").split()
        return max(bytes_of(f"{number} {unit}") for number in numbers)

    @property
    def page(self) -> str:
        """The repository's page on huggingface.co; empty: it is a folder."""
        return "" if self.is_folder else hub_page(self.type, self.id)


class ModelFiles(StrictModel):
    """Which upstream file plays which part; paths inside the repository."""

    checkpoint: RelativePath = Field(
        description="one .pth, .bin or .safetensors file, or the .index.json of several"
    )
    shards: tuple[RelativePath, ...] = Field(
        default=(), description="the files that an index names, beside it"
    )
    params: RelativePath | None = Field(default=None, description="Meta's params.json")
    config: RelativePath | None = Field(default=None, description="transformers' config.json")
    tokenizer: RelativePath | None = Field(
        default=None,
        description="tokenizer.model, or tokenizer.json where upstream has no other; null: neither",
    )
    tokenizer_beside: tuple[RelativePath, ...] = Field(
        default=(),
        description="upstream's files that are kept as they are beside the tokenizer: "
        + ", ".join(sorted(TOKENIZER_FILES)),
    )
    extras: tuple[RelativePath, ...] = Field(
        default=(), description="small files beside them, downloaded where upstream has them"
    )

    @model_validator(mode="after")
    def _one_part_a_file(self) -> ModelFiles:
        check_distinct((*self.all(), *self.extras))
        if self.checkpoint.endswith(".index.json") != bool(self.shards):
            raise ValueError("shards are named where checkpoint is an .index.json, and only there")
        names = [PurePosixPath(path).name for path in self.tokenizer_beside]
        if unknown := sorted(set(names) - TOKENIZER_FILES):
            raise ValueError(
                f"tokenizer_beside: {unknown[0]} is none of {', '.join(sorted(TOKENIZER_FILES))}"
            )
        mine = [self.tokenizer_name] if self.tokenizer else []
        check_distinct([*mine, *names])
        if names and not self.tokenizer:
            raise ValueError("tokenizer_beside is beside tokenizer, which is missing")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not said: manifests of earlier versions do not have it."""
        said = dump(self)
        return (
            said
            if self.tokenizer_beside
            else {key: value for key, value in said.items() if key != "tokenizer_beside"}
        )

    @property
    def tokenizer_name(self) -> str:
        """What the file of the tokenizer is called in ours."""
        is_json = self.tokenizer is not None and self.tokenizer.endswith(".json")
        return "tokenizer.json" if is_json else "tokenizer.model"

    def all(self) -> tuple[str, ...]:
        """Every file that must be there."""
        named = (self.checkpoint, *self.shards, self.params, self.config, self.tokenizer)
        return (*filter(None, named), *self.tokenizer_beside)


class CheckpointPart(StrictModel):
    """What of the checkpoint's files is the model, where that is not all, as training saves it."""

    select: str | None = Field(
        default=None,
        pattern=r"^\w+(\.\w+){0,3}$",
        max_length=200,
        description="key of the state dict in a torch file that holds more: 'model', or 'a.b'",
    )
    strip_prefix: str = Field(
        default="",
        pattern=r"^(\w[\w.]*\.)?$",
        description="what every name begins with in the file, and not in the model: 'module.'",
    )
    embedding_rows: int | None = Field(
        default=None,
        gt=0,
        description="of the embedding, where they are more than the tokenizer has pieces",
    )
    link: bool = Field(
        default=False,
        description="a safetensors file that is taken over as it is becomes a second name of the "
        "raw one, and no copy: damage to one is damage to both, and only upstream can repair it",
    )


class TokenizerSpec(StrictModel):
    """What is required of the tokenizer: facts of its own, or to be that of another model."""

    vocab_size: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = Field(
        default=None, description="of files.tokenizer on the real hub; null: not pinned"
    )
    sample_sha256: Sha256 | None = Field(
        default=None, description="of files.tokenizer in the sample; null: not pinned"
    )
    shared_with: AssetName | None = Field(
        default=None, description="the model whose tokenizer it is, byte for byte"
    )

    @model_validator(mode="after")
    def _one_owner_of_the_facts(self) -> TokenizerSpec:
        if (self.shared_with is None) == (self.vocab_size is None):
            raise ValueError("give either vocab_size or shared_with")
        for name in ("sha256", "sample_sha256"):
            if self.shared_with is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} is pinned by {self.shared_with}, which it is shared with")
        return self


class NeedsSpec(StrictModel):
    """What a step that makes or checks an artifact asks a cluster for, in place of what its kind
    says."""

    memory: str | None = Field(
        default=None, pattern=r"^\d+(\.\d+)? (MB|GB)$", description="such as 16 GB"
    )
    cpus: int | None = Field(default=None, ge=1, le=256)


class Spec(StrictModel):
    """What every ``defs.yaml`` says of the artifacts that it declares."""

    top: ClassVar[str] = ""
    """The folder below the root that holds those of this type; empty: that is the root."""

    _declared_in: Path | None = PrivateAttr(default=None)

    name: AssetName
    folder: str
    description: str
    version: str = "v2.0.0"
    status: Status = Field(
        default="required", description="optional: made only when it is asked for by name"
    )
    sections: dict[str, dict[str, Any]] = Field(
        default={}, description="settings that a kind of artifact declares for itself, by its name"
    )
    needs: dict[str, NeedsSpec] = Field(
        default={}, description="memory and CPUs of the steps on a cluster, by kind of artifact"
    )

    @property
    def where(self) -> str:
        """The file that declares it; its name where it was made in code."""
        return str(self._declared_in or self.name)

    @property
    def unit(self) -> str:
        """The folder below the root that holds its artifacts."""
        return f"{self.top}/{self.folder}".removeprefix("/")

    @property
    def is_optional(self) -> bool:
        return self.status == "optional"

    @property
    def place(self) -> str:
        """The folder, or the file, below the root that no other spec may declare."""
        return f"folder {self.folder}"


class ModelSpec(Spec):
    """A full-size model: raw checkpoint, tokenizer, safetensors and model card, one asset each.

    Every dtype in ``variants`` is one asset more, cast from the raw checkpoint, and optional.
    """

    top = "models_v2"
    folder: FolderName
    family: FamilyName = Field(
        description="the naming scheme of the checkpoint's tensors; transformers: that of the "
        "class which config.json names; any: whatever it is"
    )
    dtype: DType
    variants: tuple[DType, ...] = ()
    repository: Repository
    files: ModelFiles
    checkpoint: CheckpointPart = CheckpointPart()
    overrides: dict[str, JsonValue] = Field(
        default={},
        description="values of upstream's params.json or config.json that are read instead of "
        "those in it; null: as if the file did not say it",
    )
    tokenizer: TokenizerSpec
    target_device: str = "cuda"

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSpec:
        part = "params" if self.family == "meta_mtp" else "config"
        if self.parameters_file is None and self.family != "any":
            raise ValueError(f"files.{part} is missing: family {self.family} needs it")
        if self.parameters_file is None and self.overrides:
            raise ValueError("overrides: they replace values of files.config, which is missing")
        if self.checkpoint.select and ".safetensors" in self.files.checkpoint:
            raise ValueError("checkpoint.select is of torch files: safetensors holds only tensors")
        if self.checkpoint.link and not self.is_one_safetensors:
            raise ValueError("checkpoint.link: only one .safetensors file can be linked to")
        if self.files.tokenizer is None and self.tokenizer.shared_with is None:
            raise ValueError("files.tokenizer is missing, and tokenizer.shared_with too")
        if len({self.dtype, *self.variants}) != 1 + len(self.variants):
            raise ValueError(f"variants are other dtypes than {self.dtype}, each named once")
        return self

    @property
    def parameters_file(self) -> str | None:
        """The upstream file that holds the model's parameters, inside the repository; None: one of
        the family ``any`` need not have it."""
        return self.files.params if self.family == "meta_mtp" else self.files.config

    @property
    def is_one_safetensors(self) -> bool:
        """Whether the checkpoint may be taken over as it is."""
        return self.files.checkpoint.endswith(".safetensors")

    @property
    def has_params(self) -> bool:
        """Whether Meta's parameters say all of the model: it has a ``params.json``."""
        return self.family not in ("transformers", "any")

    @property
    def is_loaded(self) -> bool:
        """Whether ``safetensors/`` is a folder as transformers loads it."""
        return self.family != "meta_mtp" and self.files.config is not None


class MicroShape(StrictModel):
    """The size of a micro model; parameter names and formulas as in Meta's ``params.json``."""

    dim: int = Field(gt=0, description="hidden size")
    n_layers: int = Field(gt=0, description="counts the extra heads, as upstream does")
    n_heads: int = Field(gt=0)
    n_kv_heads: int = Field(gt=0)
    multiple_of: int = Field(gt=0)
    ffn_dim_multiplier: float = Field(gt=0)

    @model_validator(mode="after")
    def _has_whole_groups(self) -> MicroShape:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}"
            )
        return self


class MicroSpec(Spec):
    """A micro model cut from the safetensors of a full-size one."""

    top = "models_v2"
    folder: FolderName
    parent: AssetName
    dtype: DType
    shape: MicroShape
    tied: bool = Field(
        default=True,
        description="without the output matrix: readers use the embedding for it",
    )
    max_bytes: int = Field(gt=0, description="upper bound of model.safetensors, in bytes")
    target_device: str = "mps"


_SHARD = re.compile(r"-([0-9]{5})-of-([0-9]{5})")


class ExpectedCounts(StrictModel):
    """What a split of the real hub had when somebody counted it; another number is a warning."""

    problems: int = Field(ge=0, description="rows upstream")
    correct: int = Field(ge=0, description="processed rows, with no public tests in input")
    incorrect: int = Field(ge=0, description="the same")


class SplitSpec(StrictModel):
    """One split of a dataset: its upstream parquet files and how many rows they must hold."""

    files: tuple[RelativePath, ...] = Field(
        min_length=1, description="paths inside the repository; * stands for any part of a name"
    )
    rows: int | None = Field(default=None, ge=0, description="rows upstream; null: not pinned")
    expected: ExpectedCounts | None = None
    raw_only: bool = Field(default=False, description="kept in raw/, not processed")
    held_out: bool = Field(
        default=False, description="a benchmark: no training row may share words with it"
    )

    def select(self, names: Iterable[str]) -> tuple[str, ...]:
        """The split's files among those that a repository has: shards in their order.

        Raises:
            ValueError: naming a file, or the shards ``-NNNNN-of-NNNNN``, that are not among them.
        """
        there = sorted(names)
        selected: dict[str, None] = {}
        for pattern in self.files:
            matched = re.compile("[^/]*".join(map(re.escape, pattern.split("*")))).fullmatch
            found = dict.fromkeys(filter(matched, there))
            if not found:
                raise ValueError(f"has no file {pattern}")
            selected |= found
        self._check_shards(selected)
        return tuple(selected)

    def _check_shards(self, paths: Iterable[str]) -> None:
        """Require that of names with ``-NNNNN-of-NNNNN`` every shard is there, and once."""
        shards: dict[str, list[tuple[int, int]]] = {}
        for path in paths:
            if match := _SHARD.search(path):
                shard = int(match[2]), int(match[1])
                shards.setdefault(path[: match.start()], []).append(shard)
        for there in shards.values():
            totals = {total for total, _ in there}
            total = max(totals)
            found = f"has {len(there)} of {total} shards of {', '.join(self.files)}"
            missing = sorted({*range(total)} - {number for _, number in there})
            if missing and len(totals) == 1:
                raise ValueError(
                    f"{found}; missing: {', '.join(map('{:05}'.format, missing[:10]))}"
                )
            if len(there) != total or len(totals) > 1:
                raise ValueError(f"{found}; they are of more than one upload")


class SmallSpec(StrictModel):
    """Upper bounds of the small splits, in rows, and the seed of the sample."""

    train: int = Field(default=100, gt=0)
    other: int = Field(default=32, gt=0)
    seed: int = 0

    def limit(self, split: str) -> int:
        """The most rows the small ``split`` may hold."""
        return self.train if split == "train" else self.other


class DatasetSpec(Spec):
    """A dataset: raw parquet, processed JSONL, pairs, small splits, statistics, dataset card and
    Croissant.

    Seven assets; one with splits for ``evaluation`` has an eighth, its tests.
    """

    top = "datasets_v2"
    folder: FolderName
    converter: AssetName = Field(description="module of datasets/formats/ that reads upstream")
    repository: Repository
    splits: dict[Annotated[str, Field(pattern=r"^[a-z]+$")], SplitSpec] = Field(min_length=1)
    tokenizer: AssetName = Field(
        default="meta_llama_mtp_tokenizer", description="asset key of the tokenizer that counts"
    )
    max_tokens: int = Field(
        default=2048, gt=0, description="most tokens of instruction + input + output together"
    )
    public_tests: int = Field(
        default=2, ge=0, description="most public tests of a problem in input (codecontests only)"
    )
    evaluation: tuple[str, ...] = Field(
        default=(),
        description="splits that are also written with one row per problem, with all tests",
    )
    small: SmallSpec = SmallSpec()
    uses: tuple[Use, ...] = Field(min_length=1, description="what the rows may be used for")
    citation: str | None = Field(default=None, description="the paper to cite, on one line")
    pretty_name: str | None = Field(default=None, description="its name as people write it")
    language: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = Field(
        default=(), description="ISO 639 codes of the languages that the texts are in"
    )

    @model_validator(mode="after")
    def _one_split_a_file(self) -> DatasetSpec:
        check_distinct(file for split in self.splits.values() for file in split.files)
        if not self.processed_splits:
            raise ValueError("splits: all are raw_only, none is processed")
        unknown = set(self.evaluation) - self.processed_splits.keys()
        if unknown:
            raise ValueError(f"evaluation: no processed split {', '.join(sorted(unknown))}")
        return self

    @property
    def held_out(self) -> tuple[str, ...]:
        """The splits that models are compared on, so that no training row may hold them."""
        return tuple(name for name, split in self.processed_splits.items() if split.held_out)

    @property
    def processed_splits(self) -> dict[str, SplitSpec]:
        """The splits that are more than raw files."""
        return {name: split for name, split in self.splits.items() if not split.raw_only}


class SnapshotSpec(Spec):
    """The parameters of every model in one file: asset <name>."""

    folder: str = Field(default="configs", pattern="^configs$")


class DocumentSpec(Spec):
    """A document that is generated from the artifacts: asset <name>."""

    folder: str = Field(default="docs", pattern="^docs$")
    order: int = Field(default=100, description="its place in lists of documents")
    document: AssetName = Field(description="module of documents/of_storage/ that makes it")

    @property
    def place(self) -> str:
        return f"folder {self.folder}/{self.document}"

    def beside(self, name: str) -> Path:
        """A file beside the ``defs.yaml`` that declares it; where it was made in code, beside the
        one of its name that is shipped."""
        shipped = DEFS_FOLDER / "reports" / self.name / "defs.yaml"
        return (self._declared_in or shipped).with_name(name)


SPEC_OF_COMPONENT: dict[str, type[Spec]] = {
    "wmtp_assets.components.CheckpointModel": ModelSpec,
    "wmtp_assets.components.MicroModel": MicroSpec,
    "wmtp_assets.components.AlpacaDataset": DatasetSpec,
    "wmtp_assets.components.ParameterSnapshot": SnapshotSpec,
    "wmtp_assets.components.GeneratedDocument": DocumentSpec,
}
"""Component type → spec, in the order in which artifacts are listed."""


MAX_SIZE = 256 << 10
"""Bytes of a ``defs.yaml``; ours have two."""

MAX_BRACKETS = 1000
MAX_VALUES = 20_000
MAX_NUMBER = 1 << 53


def _require_little(document: object) -> None:
    """Require that a document has few values, also where one alias stands for many, and no number
    that is none elsewhere.

    Raises:
        ValueError: if it has more.
    """
    left = [document]
    for _ in range(MAX_VALUES):
        if not left:
            return
        match left.pop():
            case dict() as inner:
                left += [*inner, *inner.values()]
            case list() | tuple() | set() as inner:
                left += inner
            case bool():
                pass
            case int() as number if abs(number) > MAX_NUMBER:
                raise ValueError(f"a number of more than {MAX_NUMBER}")
    raise ValueError(f"more than {MAX_VALUES} values")


def load_spec(path: Path) -> Spec:
    """Read one ``defs.yaml``.

    Raises:
        SpecError: naming the file and the field that is wrong.
    """
    try:
        text = read_small(path, MAX_SIZE).decode()
        if "{{" in text:
            line = text[: text.index("{{")].count("\n") + 1
            raise SpecError(
                f"{path}: line {line}: templating ('{{{{') is not supported here; wmtp reads this "
                "file without Dagster, so write the value itself"
            )
        if text.count("[") + text.count("{") > MAX_BRACKETS:
            raise ValueError(f"more than {MAX_BRACKETS} brackets")
        document: Any = parse_yaml(text)
        _require_little(document)
    except (OSError, *NOT_YAML) as error:
        raise SpecError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(document, dict) or set(document) - {"type", "attributes"}:
        raise SpecError(f"{path}: expected exactly the two keys 'type' and 'attributes'")
    spec_class = SPEC_OF_COMPONENT.get(str(document.get("type")))
    if spec_class is None:
        raise SpecError(
            f"{path}: unknown component type {document.get('type')!r}; known are "
            + ", ".join(SPEC_OF_COMPONENT)
        )
    try:
        spec = spec_class.model_validate(document.get("attributes"))
    except ValidationError as error:
        problems = "; ".join(
            printable(".".join(["attributes", *map(str, item["loc"])]), keep="")
            + f": {message_of(item)}"
            for item in error.errors()
        )
        raise SpecError(f"{path}: {problems}") from error
    if isinstance(spec, ModelSpec | DatasetSpec) and spec.repository.path is not None:
        folder = path.parent / Path(spec.repository.path).expanduser()
        repository = spec.repository.model_copy(update={"path": normpath(folder.absolute())})
        spec = spec.model_copy(update={"repository": repository})
    spec._declared_in = path
    return spec


def load_specs(folder: Path = DEFS_FOLDER) -> tuple[Spec, ...]:
    """Read every ``defs.yaml`` below ``folder``, in path order.

    Raises:
        SpecError: naming the file, for a malformed file or a name that is used twice.
    """
    specs = tuple(map(load_spec, sorted(folder.rglob("defs.yaml"))))
    if not specs:
        raise SpecError(f"{folder}: no defs.yaml found")
    owner: dict[str, Spec] = {}
    folders: dict[str, tuple[str | None, Spec]] = {}
    for spec in specs:
        if isinstance(spec, ModelSpec | DatasetSpec):
            name, path = spec.repository.id, spec.repository.path
            other, first = folders.setdefault(name, (path, spec))
            if other != path:
                raise SpecError(
                    f"{spec.where}: repository.id {name} is that of another folder, or of the hub, "
                    f"in {first.where}; give one of them another id"
                )
        for claim in (f"name {spec.name}", spec.place):
            first = owner.setdefault(claim, spec)
            if first is not spec:
                raise SpecError(f"{spec.where}: {claim!r} is already declared by {first.where}")
    return specs


def usable_for(use: str, dataset: str | None = None) -> tuple[str, ...]:
    """The datasets that may be used for something.

    Args:
        use: ``verifiable_critic`` (training that reads is_correct), ``baseline`` or ``rho_1``
            (training that does not), or ``evaluation``.
        dataset: one that must be among them.

    Raises:
        SpecError: for an unknown use or dataset, or if ``dataset`` must not be used for it.
    """
    if use not in get_args(Use):
        raise SpecError(f"{use!r} is not a use of a dataset; those are: {', '.join(get_args(Use))}")
    specs = {spec.name: spec for spec in load_specs() if isinstance(spec, DatasetSpec)}
    names = tuple(name for name, spec in specs.items() if use in spec.uses)
    if dataset is not None and dataset not in specs:
        raise SpecError(f"{dataset!r} is not a dataset; known: {', '.join(specs)}")
    if dataset is not None and dataset not in names:
        raise SpecError(
            f"{dataset} must not be used for {use}: it is for {', '.join(specs[dataset].uses)}. "
            f"Use one of: {', '.join(names) or 'none yet'}"
        )
    return names
