"""What the documents name is there."""

import re

import pytest

from conftest import ROOT

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    """Files of the project that stand in backticks, but for the examples of one's own part."""
    text = (ROOT / page).read_text()
    for path in re.findall(r"`((?:src|tests|conf|docs|experiments|benchmarks)/[\w./-]+\w)`", text):
        if not re.search(r"\b(test_mine|mine|x)\b", path):
            assert (ROOT / path).exists(), f"{page} names {path}"


def test_the_drills_are_tests():
    text = (ROOT / "docs" / "reliability.md").read_text()
    for name in re.findall(r"`((?:\w+/)*test_\w+)`", text):
        found = (ROOT / "tests" / f"{name}.py").exists()
        assert found or any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob("*.py")), name
