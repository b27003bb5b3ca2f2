"""Each option is explained by its command's manual page, and by one page of docs at most: tests/options.py."""

from tests.options import OTHERS, PAGES, places
from tests.support.examples import DOCUMENTS


def test_one_page_of_docs_explains_an_option() -> None:
    """Paragraphs of other pages that name it have a link to that page."""
    assert [place for place in places() if len(place.pages) > 1] == []


def test_each_document_has_its_part() -> None:
    """It explains options, or it does not."""
    assert sorted([*PAGES, *OTHERS]) == sorted(path.name for path in DOCUMENTS)
