"""A hook of MkDocs: pages of the repository outside docs/, and the links to them.

Links are written for a viewer of the repository, relative to the file they stand in. On the site `experiments/` and
documents such as CHANGELOG.md are pages as well, at their path in the repository. Other files that pages link to are
copied. A link that leads nowhere fails the build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "experiments/**/*.md")
PACKAGE = "src/brcd_lightning"
ELSEWHERE = {
    "README.md": "index.md",
    "conf": "reference/configuration.md",
    f"{PACKAGE}/cli": "reference/commands.md",
    **{
        f"{PACKAGE}/{part}": f"reference/api/{part.removesuffix('.py')}.md"
        for part in ("backbones.py", "codes", "deployment", "distillation", "errors.py", "hashing", "metrics", "search")
    },
}
"""Files and folders of the repository that have a page of their own on the site."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages of the repository, and files that pages link to."""
    sources = [path for pattern in PAGES for path in ROOT.glob(pattern)]
    documents = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    linked = {path for source in [*documents, *sources] for path in _linked_files(source)}
    for path in sorted({*sources, *linked}):
        uri = path.relative_to(ROOT).as_posix()
        if uri not in ELSEWHERE and not path.is_relative_to(config.docs_dir):
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links from the repository's folders to the site's."""
    if page.file.abs_src_path is None or not Path(page.file.abs_src_path).is_relative_to(ROOT):
        return markdown  # a generated page
    folder = Path(page.file.abs_src_path).parent

    def rewritten(found: re.Match[str]) -> str:
        uri = site_uri(folder / found[1], Path(config.docs_dir))
        return found[1] if uri is None else posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return _LINK.sub(rewritten, markdown)


def site_uri(target: Path, docs: Path) -> str | None:
    """The place on the site of a file or folder of the repository; None if it is not there."""
    path = target.resolve()
    if not path.exists() or not path.is_relative_to(ROOT):
        return None
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    uri = path.relative_to(ROOT).as_posix()
    if uri in ELSEWHERE:
        return ELSEWHERE[uri]
    return f"{uri}/README.md" if path.is_dir() else uri


def _linked_files(source: Path) -> Iterator[Path]:
    for target in _LINK.findall(source.read_text(encoding="utf-8")):
        path = (source.parent / target).resolve()
        if path.is_file() and path.is_relative_to(ROOT):
            yield path
