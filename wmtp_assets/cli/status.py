"""``wmtp status``: problems first, then a line per artifact, without reading its bytes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.table import NONE
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import (
    Document,
    any_names,
    over_store,
    print_line,
    print_paragraph,
    print_table,
    select,
)
from wmtp_assets.operations.status import (
    EXIT_CODES,
    UNVERIFIED,
    FileStatus,
    Status,
    exit_code,
    files_status,
    in_words,
    stale,
    status_of,
)
from wmtp_assets.storage.store import Store


@click.command(short_help="Show what is there, and what is known to be wrong.")
@any_names
@click.option("--files", "by_file", is_flag=True, help="A line per file: when was it last read?")
@click.option("--stale", "only_stale", is_flag=True, help="Only: what must be made again, and why?")
@click.option("--wide", is_flag=True, help="Every column, and each row on one line.")
@over_store
def status(
    store: Store, names: tuple[str, ...], by_file: bool, only_stale: bool, wide: bool
) -> Document:
    """Show what is known to be wrong, then what there is, by group.

    NAME is an asset key or a folder name; all by default. Nothing is hashed: see wmtp verify. A
    file that was written, replaced or removed since it was read shows here at once. With --stale:
    what must be made again, upstream first, and what will have to be if its upstream's content
    changes.

    Exit codes, which add up: 0 nothing is known to be wrong, 1 damaged or a rule failed, 2 missing
    file or artifact, 4 unreadable, 8 written since it was verified, 16 must be made again; 64 wrong
    usage, 70 internal error. That something was not verified yet is not wrong.
    """
    if by_file and only_stale:
        raise click.UsageError("--files and --stale are two tables: ask for one")
    artifacts = select(store, names)
    if only_stale:
        return _stale(store, artifacts)
    if by_file:
        files = []
        for artifact in artifacts:
            found = files_status(store, artifact)
            files += found
            if found:
                print_line(f": {artifact.base}/", (artifact.key, "bold"))
                print_files(found, artifact, is_wide=wide)
        return {"files": files}
    rows = [status_of(store, artifact) for artifact in artifacts]
    problems = [row for row in rows if _is_problem(row)]
    for row in problems:
        _print_problem(row)
    groups: dict[str, list[Status]] = {}
    for artifact, row in zip(artifacts, rows, strict=True):
        groups.setdefault(artifact.group, []).append(row)
    for group, members in groups.items():
        _print_group(group, members, wide)
    absent = [row for row in rows if row.state == "absent"]
    for title, is_optional in (("not made", False), ("optional, not made", True)):
        keys = [row.name for row in absent if row.optional == is_optional]
        if keys:
            print_paragraph(f"{title}, {len(keys)}: {', '.join(keys)}")
            print_line("")
    _print_summary(store, rows, len(problems))
    return {"exit_code": exit_code(rows), "artifacts": rows}


def _is_problem(row: Status) -> bool:
    """Whether something is to be done or known about an artifact that is there, or could be."""
    return row.state != "absent" and row.problem not in ("", UNVERIFIED)


def _print_problem(row: Status) -> None:
    """What is wrong with an artifact, and on a line of its own, to be copied, the command: the one
    that repairs it, or names that."""
    what, _, command = row.problem.partition("; run: ")
    if not command and row.code & (EXIT_CODES["damaged"] | EXIT_CODES["absent"]):
        command = f"wmtp verify {row.name}"
    print_line("", (row.name, "bold red"))
    print_paragraph(what, indent=2)
    if command:
        print_line(f"  run: {command}")
    print_line("")


def _print_group(group: str, rows: list[Status], is_wide: bool) -> None:
    there = [row for row in rows if row.state != "absent"]
    if not there:
        return
    size = human_bytes(sum(row.size or 0 for row in there))
    print_line(f": {_count(rows)}, {size}", (group, "bold"))
    print_table(
        (
            *("name", "kind", "size", "dtype", "rows", "revision", "source", "verified (UTC)"),
            "state",
            "problem",
        ),
        [
            (_cells(row, is_wide), "red" if _is_problem(row) else "dim" * (row.state == "absent"))
            for row in (rows if is_wide else there)
        ],
        right=("size", "rows"),
        spare=("kind", "revision", "source"),
        indent=2,
        is_wide=is_wide,
    )
    print_line("")


def _cells(row: Status, is_wide: bool) -> tuple[object, ...]:
    unpinned = " unpinned" if row.pinned is False else ""
    verified = row.verified_at
    if verified and not is_wide:
        verified = verified[:16].replace("T", " ")
    return (
        row.name,
        row.kind,
        human_bytes(row.size) if row.size is not None else None,
        row.dtype,
        f"{row.rows:,}" if row.rows is not None else None,
        (row.revision or NONE)[:8] + unpinned,
        row.source,
        verified or ("not yet" if row.size is not None else None),
        "see above" if _is_problem(row) and not is_wide else None,
        row.problem if is_wide else None,
    )


def _print_summary(store: Store, rows: list[Status], problems: int) -> None:
    optional = [row for row in rows if row.optional]
    unverified = sum(row.problem == UNVERIFIED for row in rows)
    if problems:
        print_line(f"{problems} with a problem: see above")
    if unverified:
        print_line(f"{unverified} not verified yet: wmtp verify")
    print_line(f"{store.root} ({store.settings.source})")
    print_line(
        f"{_count([row for row in rows if not row.optional])} artifacts, "
        + (f"{_count(optional)} optional ones, " if optional else "")
        + human_bytes(sum(row.size or 0 for row in rows))
    )


def print_files(files: Sequence[FileStatus], artifact: Artifact, *, is_wide: bool = False) -> None:
    """The files of an artifact, by their paths in its folder."""
    print_table(
        ("file", "size", "sha256", "last read (UTC)", "problem"),
        [
            (
                (
                    row.file.removeprefix(f"{artifact.base}/"),
                    human_bytes(row.size),
                    row.sha256[:12],
                    row.read_at and row.read_at[:16].replace("T", " "),
                    row.problem,
                ),
                "red" * bool(row.problem),
            )
            for row in files
        ],
        right=("size",),
        below=("problem",),
        spare=("sha256",),
        indent=2,
        is_wide=is_wide,
    )


def _stale(store: Store, artifacts: list[Artifact]) -> Document:
    rows = stale(store, artifacts)
    for row in rows:
        why = "; ".join(map(in_words, row.reasons))
        after = f"if {', '.join(row.after)} has other content then"
        print_paragraph(f"{row.name}: {why or after}", hanging=4)
    must = [row for row in rows if row.reasons]
    print_line(f"{len(must)} must be made again, {len(rows) - len(must)} may have to be")
    if must:
        print_line("to make them: make materialize SELECT=stale")
    return {"exit_code": EXIT_CODES["stale"] * bool(must), "stale": rows}


def _count(rows: list[Status]) -> str:
    return f"{sum(row.state != 'absent' for row in rows)} of {len(rows)}"
