"""The page and the chart that the benchmarks write."""

from xml.etree import ElementTree

from tests.benchmarks.measure import Work
from tests.benchmarks.report import markdown, svg

WORKS = [
    Work("bulk <1>", {"netkit": {"wall s": 0.5, "CPU s": 1.25}, "nc": {"wall s": 2.0, "CPU s": 3.0}}),
    Work("echo", {"netkit": {"messages/s": 123_456.0}, "socat": {"messages/s": 0.0}}, more=True),
]


def test_the_chart_has_a_bar_for_each_tool_as_long_as_its_first_figure() -> None:
    """The chart is valid XML, and the lengths of bars are proportional to the figures."""
    chart = ElementTree.fromstring(svg(WORKS))
    bars = [bar for bar in chart.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
    lengths = [float(bar.get("width", "")) for bar in bars]
    assert [round(length / max(lengths), 2) for length in lengths] == [0.25, 1, 1, 0]
    assert "bulk <1> (wall s)" in "".join(chart.itertext())


def test_the_page_has_a_table_for_each_work() -> None:
    """The page has a table for each benchmark; the last column is the ratio to the first tool."""
    page = markdown(WORKS, "One processor.")
    assert "One processor." in page
    assert "| nc | 2 | 3 | 4.00 |" in page
    assert "## Echo\n\nmessages/s: more is better.\n" in page
    assert "| netkit | 123,456 | 1.00 |" in page
