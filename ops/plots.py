"""A plot as SVG, written by hand: a bar a run is no reason for a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

_BAR, _GAP, _TOP = 22, 8, 48
_LABELS, _BARS, _NUMBERS = 320, 440, 100
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars with their labels and numbers, the first on top; those that are no number have no bar."""
    finite = [value for _, value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    scale = _BARS / ((high - low) or 1.0)
    zero = _LABELS - low * scale
    width, height = _LABELS + _BARS + _NUMBERS, _TOP + len(values) * (_BAR + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="28" {_FONT} font-weight="600">{escape(title)}</text>',
    ]
    for index, (label, value) in enumerate(values):
        y = _TOP + index * (_BAR + _GAP)
        length = abs(value) * scale if math.isfinite(value) else 0.0
        x = zero - length if value < 0 else zero
        parts += [
            f'<text x="{_LABELS - 10}" y="{y + 16}" text-anchor="end" {_FONT}>{escape(label)}</text>',
            f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="#1a73e8"/>',
            f'<text x="{max(x, zero) + (length if value >= 0 else 0) + 6:.1f}" y="{y + 16}" {_FONT}>{value:.4g}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
