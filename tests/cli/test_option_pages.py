"""Each option is explained by the man page of its command, and by at most one page of docs: tests/options.py."""

from tests.options import OTHERS, PAGES, places
from tests.support.examples import DOCUMENTS


def test_one_page_of_docs_explains_an_option() -> None:
    """An option is explained by at most one page of docs; paragraphs elsewhere that name it have a link to it."""
    assert [place for place in places() if len(place.pages) > 1] == []


def test_each_document_has_its_part() -> None:
    """Each document is either in PAGES or in OTHERS."""
    assert sorted([*PAGES, *OTHERS]) == sorted(path.name for path in DOCUMENTS)
