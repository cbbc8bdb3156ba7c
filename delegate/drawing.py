"""Drawings of levels as a trial keeps them: columns, one line a shape; and as a map of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CANVAS = "canvas"
"""role of the line that says how large a drawing is"""
LEAST, MOST = 8, 24
"""units across from which on a map has one cell a unit; cells across of a smaller one"""


def packed(drawings: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Drawings of levels 0, 1, ... as Bank.drawing gives them: columns [K].

    level int32 · shape, role str · x, y, width, height float32
    """
    lines = [
        (level, each["shape"], each["role"], *each["at"], *each["size"])
        for level, drawing in enumerate(drawings)
        for each in [
            {"shape": "rect", "role": CANVAS, "at": [0, 0], "size": drawing["size"]},
            *drawing["shapes"],
        ]
    ]
    level, shape, role, *numbers = zip(*lines, strict=True)
    return {
        "level": np.array(level, np.int32),
        "shape": np.array(shape, np.str_),
        "role": np.array(role, np.str_),
        **{
            name: np.array(column, np.float32)
            for name, column in zip(("x", "y", "width", "height"), numbers, strict=True)
        },
    }


def unpacked(columns: Mapping[str, np.ndarray], level: int) -> dict[str, Any]:
    """The drawing of one level. Raises LookupError for one that is not there."""
    mine = np.flatnonzero(columns["level"] == level)
    numbers = np.stack([columns[name][mine] for name in ("x", "y", "width", "height")], axis=1)
    shapes = [
        {"shape": str(shape), "role": str(role), "at": line[:2], "size": line[2:]}
        for shape, role, line in zip(
            columns["shape"][mine], columns["role"][mine], numbers.tolist(), strict=True
        )
    ]
    canvas = [each for each in shapes if each["role"] == CANVAS]
    if not canvas:
        raise LookupError(f"no drawing of level {level}")
    return {"size": canvas[0]["size"], "shapes": [e for e in shapes if e["role"] != CANVAS]}


class Map:
    """A drawing in square cells.

    scale: cells a unit · shape: (rows, columns) · roles: str [rows, columns] what is drawn there,
    "" for nothing; what is named later lies above
    """

    def __init__(self, drawing: Mapping[str, Any]) -> None:
        width, height = drawing["size"]
        across = max(width, height)
        self.scale = 1.0 if across >= LEAST else MOST / across
        self.shape = (round(height * self.scale) or 1, round(width * self.scale) or 1)
        self.roles = np.full(self.shape, "", "<U8")
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        for each in drawing["shapes"]:
            middle = np.array(each["at"]) * self.scale
            half = np.array(each["size"]) * self.scale / 2
            away = np.stack([x + 0.5 - middle[0], y + 0.5 - middle[1]]) / half[:, None, None]
            within = abs(away).max(0) < 1
            if each["shape"] == "circle":
                within = (away**2).sum(0) < 1
            self.roles[within] = each["role"]
            row, column = np.divmod(self.cells(np.array([each["at"]]))[0], self.shape[1])
            self.roles[row, column] = each["role"]

    def cells(self, places: np.ndarray) -> np.ndarray:
        """Which cell each place lies in, row by row: int64 [n]. places: [n, 2] as x, y in units"""
        column, row = (places * self.scale).astype(np.int64).T
        rows, columns = self.shape
        return row.clip(0, rows - 1) * columns + column.clip(0, columns - 1)
