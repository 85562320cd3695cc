"""The soak's plot: what the broker held and answered over time, and what was done to it, as one SVG."""

from __future__ import annotations

import math
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT = 900, 70, 20
TOP, PANEL, GAP = 60, 130, 34
FAULTS = {  # in the order of the legend
    "kill_worker": "#d62728",
    "stop_worker": "#ff7f0e",
    "kill_loader": "#9467bd",
    "reload": "#1f77b4",
    "client_dies": "#2ca02c",
}


class Panel(NamedTuple):
    """One curve."""

    title: str
    points: list[tuple[float, float]]
    """Seconds, and a value from 0."""


def plot(title: str, subtitle: str, panels: list[Panel], faults: list[tuple[float, str]]) -> str:
    """The SVG; `faults` are the seconds and the name of each."""
    end_s = max(seconds for panel in panels for seconds, _ in panel.points)
    bottom = TOP + len(panels) * (PANEL + GAP)
    parts = [
        _text(LEFT, 22, title, size=15),
        _text(LEFT, 40, subtitle),
        *(part for row, panel in enumerate(panels) for part in _curve(panel, row, end_s, faults)),
        *_minutes(end_s, bottom),
        *_legend(bottom + 44),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 60}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _curve(panel: Panel, row: int, end_s: float, faults: list[tuple[float, str]]) -> list[str]:
    """The panel's title, its grid, a tick for each fault, and the curve over them."""
    top = TOP + GAP + row * (PANEL + GAP)
    step = _step(max(value for _, value in panel.points), 4)
    highest = step * math.ceil(max(value for _, value in panel.points) / step)

    def height(value: float) -> float:
        return top + PANEL - PANEL * value / highest

    parts = [_text(LEFT, top - 8, panel.title)]
    for number in range(round(highest / step) + 1):
        y = height(number * step)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "#ddd"))
        parts.append(_text(LEFT - 6, y + 4, f"{number * step:g}", anchor="end"))
    for seconds, name in faults:
        x = _x(seconds, end_s)
        parts.append(_line(x, top + PANEL - 10, x, top + PANEL, FAULTS[name], width=2))
    points = " ".join(f"{_x(seconds, end_s):.1f},{height(value):.1f}" for seconds, value in panel.points)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#222" stroke-width="1.2"/>')
    return parts


def _minutes(end_s: float, y: float) -> list[str]:
    """The axis of all panels."""
    step = _step(end_s / 60, 10)
    marks = [number * step for number in range(int(end_s / 60 / step) + 1)]
    labels = [_text(_x(60 * minutes, end_s), y + 16, f"{minutes:g}", anchor="middle") for minutes in marks]
    return [*labels, _text(WIDTH - RIGHT, y + 30, "minutes", anchor="end")]


def _legend(y: float) -> list[str]:
    parts = [_text(LEFT, y, "faults:")]
    for number, (name, colour) in enumerate(FAULTS.items()):
        x = LEFT + 60 + number * 130
        parts += [_line(x, y - 10, x, y, colour, width=2), _text(x + 6, y, name.replace("_", " "))]
    return parts


def _step(highest: float, most: int) -> float:
    """The least of 1, 2 and 5 times a power of ten that goes at most `most` times into `highest`."""
    power = 10 ** math.floor(math.log10(max(highest, 1) / most))
    return next(step * power for step in (1, 2, 5, 10) if step * power * most >= highest)


def _x(seconds: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / end_s


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    where = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {where} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {where} text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
