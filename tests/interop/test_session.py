"""The picture in README: it can be drawn again, and the lines typed in it still do what it shows."""

import re
from pathlib import Path

from tests import session
from tests.support.processes import tool

PICTURE = Path(__file__).parents[2] / "docs" / "session.svg"


def words(svg: str) -> str:
    """The text of a picture, without the times, which differ from run to run."""
    text = re.sub(r"<[^>]*>|\s|&#160;", "", svg.partition("</style>")[2])
    return re.sub(r"(&lt;)?(?<!wait)(?<![0-9.])[0-9.]+m?s", "", text)


def test_the_picture_of_readme_is_current(tmp_path: Path) -> None:
    """A new picture differs from the one in docs only in times."""
    for program in ("nginx", "redis-server", "socat"):
        tool(program)
    session.main(str(tmp_path / "session.svg"))
    assert words((tmp_path / "session.svg").read_text()) == words(PICTURE.read_text())
