"""What was measured as Markdown, and as a chart in SVG."""

import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from xml.sax.saxutils import escape

from tests.benchmarks.measure import Figures, Work

_WIDTH, _LEFT, _BAR, _ROW, _HEAD = 500, 130, 230, 17, 30  # px: of a column, of a name, of the longest bar; heights
_OURS, _OTHERS = "#2b6cb0", "#b8c0cc"
_TOOLS = ("nc", "ncat", "socat", "iperf3", "nmap", "curl", "wget", "nginx", "gcc")


def machine() -> str:
    """The processor, the memory, and what was compared."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = next(int(line.split()[1]) for line in lines) / (1 << 20)
    missing = [tool for tool in _TOOLS if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin")]
    return (
        f"{', '.join(sorted(models)) or platform.machine()}, {os.cpu_count()} processors, {memory:.0f} GiB; "
        f"Linux {platform.release().partition('-')[0]}, {platform.python_implementation()} "
        f"{platform.python_version()}, click {version('click')}. "
        + (f"Not installed, so not compared: {', '.join(missing)}." if missing else "")
    ).strip()


def markdown(works: Sequence[Work], note: str) -> str:
    """A page with the chart and a table for each work."""
    parts = [
        "# Benchmarks",
        "`python -m tests.benchmarks` measured all of this on one machine over loopback. The tools take turns, and the "
        "figures are medians. Each tool is its own client and server unless the title says otherwise. C is "
        "[a program of a few lines](../tests/benchmarks/minimal.c) with the same system calls, and shows what is "
        "possible. The ratio is that of the first figure to netkit's.",
        note,
        "![Bars: the first figure of each tool](benchmarks.svg)",
    ]
    parts += map(table, works)
    return "\n\n".join(parts)


def table(work: Work) -> str:
    """A section: the tools, their figures, and the ratio of the first figure to that of the first tool."""
    heads = list(dict.fromkeys(name for figures in work.tools.values() for name in figures))
    rows = [["", *heads, "ratio"], ["---", *["---:"] * (len(heads) + 1)]]
    first = next(iter(work.tools.values()))
    for tool, figures in work.tools.items():
        rows.append([tool, *(_number(figures.get(head)) for head in heads), _ratio(first, figures)])
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    better = "more is better" if work.more else "less is better"
    return f"## {work.title[0].upper()}{work.title[1:]}\n\n{heads[0]}: {better}.\n\n{lines}\n"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(first: Figures, figures: Figures) -> str:
    key = next(iter(first))
    return f"{figures[key] / first[key]:.2f}" if first[key] else ""


def svg(works: Sequence[Work]) -> str:
    """A group of bars for each work, in two columns; a bar is as long as the first figure."""
    heights = [_HEAD + _ROW * len(work.tools) for work in works]
    columns: list[list[Work]] = [[], []]
    fill = [0, 0]
    for work, height in zip(works, heights, strict=True):
        side = 0 if fill[0] + height <= sum(heights) / 2 or not fill[0] else 1
        columns[side].append(work)
        fill[side] += height
    parts = []
    for side, column in enumerate(columns):
        top = 10
        for work in column:
            parts += _bars(work, 10 + side * _WIDTH, top)
            top += _HEAD + _ROW * len(work.tools)
    size = f'width="{2 * _WIDTH + 20}" height="{max(fill) + 20}"'
    style = "text{font:12px sans-serif;fill:#1a202c}.title{font-weight:bold}.n{fill:#4a5568}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {2 * _WIDTH + 20} {max(fill) + 20}">'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, f"<style>{style}</style>", ground, *parts, "</svg>"]) + "\n"


def _bars(work: Work, left: int, top: int) -> list[str]:
    unit = next(iter(next(iter(work.tools.values()))))
    better = ", more is better" if work.more else ""
    parts = [f'<text class="title" x="{left}" y="{top + 14}">{escape(f"{work.title} ({unit}{better})")}</text>']
    longest = max(figures[unit] for figures in work.tools.values()) or 1
    for place, (tool, figures) in enumerate(work.tools.items()):
        y = top + 20 + place * _ROW
        length = max(figures[unit] / longest * _BAR, 1)
        colour = _OURS if tool.startswith("netkit") else _OTHERS
        parts += [
            f'<text x="{left}" y="{y + 11}">{escape(tool)}</text>',
            f'<rect x="{left + _LEFT}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 5}" fill="{colour}"/>',
            f'<text class="n" x="{left + _LEFT + length + 5:.1f}" y="{y + 11}">{_number(figures[unit])}</text>',
        ]
    return parts
