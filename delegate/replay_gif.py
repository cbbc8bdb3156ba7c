"""A replayed sub-episode as an animated GIF."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from delegate.files import write_whole
from delegate.replay import Frame, Replay, frames

CELL = 20
"""side of a cell (pixels)"""
CAPTION = 44
"""height of the two lines of text below the map (pixels)"""
LEAST_WIDTH = 360
HOLD = 1_500
"""how long the last picture stays (milliseconds)"""

_COLOURS = {
    "paper": (255, 255, 255),
    "wall": (60, 64, 72),
    "grid": (228, 230, 234),
    "trail": (190, 220, 245),
    "agent": (20, 110, 200),
    "goal": (40, 160, 80),
    "proxy": (200, 120, 20),
    "ink": (30, 32, 36),
    "alarm": (210, 40, 40),
}

_SHADES = 8
"""steps between paper and a text's colour, so that letters are smooth"""


def write_gif(replay: Replay, path: Path, frames_per_second: float = 12.0) -> None:
    """Write the whole animation to `path`, or nothing at all.

    The walls are dark, the goal a green disc, the proxy an orange diamond, the agent a blue
    square that turns red, with the frame, at the alarm.
    Raises OSError if `path` cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    pictures = [picture(replay, frame) for frame in frames(replay)]
    # GIF counts hundredths of a second, and viewers slow anything below two of them.
    pace = max(20, round(100 / frames_per_second) * 10)
    file = io.BytesIO()
    pictures[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[pace] * (len(pictures) - 1) + [HOLD],
        loop=0,
        optimize=False,
    )
    write_whole(path, file.getvalue())


def picture(replay: Replay, frame: Frame) -> Image.Image:
    """One frame as a palette image."""
    height, width = replay.map.shape
    size = (max(width * CELL + 1, LEAST_WIDTH), height * CELL + 1 + CAPTION)
    image = Image.new("RGB", size, _COLOURS["paper"])
    pen = ImageDraw.Draw(image)
    for cell in range(height * width):
        row, column = divmod(cell, width)
        left, top = column * CELL, row * CELL
        colour = "trail" if cell in frame.trail else "paper"
        colour = "wall" if replay.map.roles[row, column] == "wall" else colour
        box = (left, top, left + CELL, top + CELL)
        pen.rectangle(box, fill=_COLOURS[colour], outline=_COLOURS["grid"])
    for each in replay.drawing["shapes"]:
        _draw_shape(pen, replay, each)
    x, y = _pixels(replay, frame.place)
    colour = "alarm" if frame.alarmed else "agent"
    pen.rectangle((x - 5, y - 5, x + 5, y + 5), fill=_COLOURS[colour])
    if frame.alarmed:
        edge = (0, 0, width * CELL, height * CELL)
        pen.rectangle(edge, outline=_COLOURS["alarm"], width=3)
    font = ImageFont.load_default(13)
    ink = _COLOURS["alarm" if frame.alarmed else "ink"]
    below = height * CELL + 5
    pen.text(
        (4, below), f"{replay.id}  {replay.who.split(',')[0]}", fill=_COLOURS["ink"], font=font
    )
    pen.text((4, below + 18), frame.caption, fill=ink, font=font)
    return image.quantize(palette=_palette(), dither=Image.Dither.NONE)


@cache
def _palette() -> Image.Image:
    """The colours, and for the two of text the shades between them and the paper."""
    colours = list(_COLOURS.values())
    for name in ("ink", "alarm"):
        for shade in range(1, _SHADES):
            part = shade / _SHADES
            mixed = [round(part * c + (1 - part) * 255) for c in _COLOURS[name]]
            colours.append((mixed[0], mixed[1], mixed[2]))
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def _draw_shape(pen: ImageDraw.ImageDraw, replay: Replay, shape: Mapping[str, Any]) -> None:
    """A goal as a disc, a proxy as a diamond, a trap as a cross; walls are cells."""
    x, y = _pixels(replay, shape["at"])
    half = max(7, round(min(shape["size"]) * replay.map.scale * CELL / 2) - 3)
    if shape["role"] == "goal":
        pen.ellipse((x - half, y - half, x + half, y + half), fill=_COLOURS["goal"])
    if shape["role"] == "proxy":
        corners = [(x, y - half - 1), (x + half + 1, y), (x, y + half + 1), (x - half - 1, y)]
        pen.polygon(corners, fill=_COLOURS["proxy"])
    if shape["role"] == "trap":
        for up in (half, -half):
            pen.line((x - half, y - up, x + half, y + up), fill=_COLOURS["ink"], width=2)


def _pixels(replay: Replay, place: Sequence[float]) -> tuple[int, int]:
    """Where a place of the drawing is in the picture."""
    x, y = (int(each * replay.map.scale * CELL) for each in place)
    return x, y
