"""The docs site (``make docs``): what MkDocs does not know about this project's pages.

The pages in ``docs/`` are written for the code host. There they link to files beside ``docs/``
(README, ``trust/``, sources) and mark code blocks for the tests. The site shows those files too,
below ``project/``, so that no link leads out of it; the marks of the blocks are taken off.

``mkdocs.yml`` names this module as a hook: MkDocs calls the functions ``on_…``. A link that leads
nowhere is logged as a warning, which ``strict`` turns into an error.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.docs_site")

PREFIX = "project/"
"""Where the site has the files of the project that lie outside ``docs/``."""

OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
"""Pages outside ``docs/`` that the navigation lists; others are added when a page links to them."""

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^```(\w+) ([^\n]+)$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_ADDRESS = re.compile(r"https?://[\w.-]+\.\w+(:\d+)?(/\S*)?")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add every file outside ``docs/`` that a page links to, and what those link to in turn."""
    project = Path(config.docs_dir).parent
    waiting = [file for file in files if file.is_documentation_page()]
    waiting += [_add(files, config, name) for name in OUTSIDE]
    while waiting:
        file = waiting.pop()
        for target in sorted(_targets(file)):
            known = files.get_file_from_path(_site_name(target))
            is_ours = not target.startswith(("docs/", "../"))
            if known is None and is_ours and (project / target).is_file():
                added = _add(files, config, target)
                waiting.extend([added] if added.is_documentation_page() else [])
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them, and code blocks without the marks of the tests."""
    here = page.file

    def lead(match: re.Match[str]) -> str:
        link = match[0]
        if "://" in link:
            if not _ADDRESS.fullmatch(link):
                log.warning("%s: %r is not an address", here.src_uri, link)
            return link
        name, hash_sign, anchor = link.partition("#")
        if not name:
            return link
        target = _site_name(_resolve(here, name))
        if files.get_file_from_path(target) is None:
            log.warning("%s: the link %r leads to no file", here.src_uri, link)
        start = posixpath.dirname(here.src_uri) or "."
        return f"{posixpath.relpath(target, start)}{hash_sign}{anchor}"

    return _outside_blocks(_MARK.sub(_unmark, markdown), lambda text: _LINK.sub(lead, text))


def _unmark(match: re.Match[str]) -> str:
    language, mark = match.groups()
    title = f' title="{mark[5:]}"' if mark.startswith("file=") else ""
    return f"```{language}{title}"


def _outside_blocks(markdown: str, change: Callable[[str], str]) -> str:
    """Change the prose and leave code blocks alone."""
    done, end = [], 0
    for block in _FENCE.finditer(markdown):
        done += [change(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*done, change(markdown[end:])])


def _targets(file: File) -> set[str]:
    """Where the relative links of a page lead to: paths below the project."""
    links = _LINK.findall(_FENCE.sub("", file.content_string))
    names = {link.partition("#")[0] for link in links if "://" not in link}
    return {_resolve(file, name) for name in names if name}


def _resolve(file: File, link: str) -> str:
    """The path below the project that a link of a page leads to."""
    outside = file.src_uri.startswith(PREFIX)
    place = file.src_uri.removeprefix(PREFIX) if outside else f"docs/{file.src_uri}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), link))


def _site_name(target: str) -> str:
    """The path in the site of a path below the project."""
    return target.removeprefix("docs/") if target.startswith("docs/") else f"{PREFIX}{target}"


def _add(files: Files, config: MkDocsConfig, target: str) -> File:
    options: dict[str, Any] = {"abs_src_path": str(Path(config.docs_dir).parent / target)}
    file = File.generated(config, f"{PREFIX}{target}", **options)
    files.append(file)
    return file
