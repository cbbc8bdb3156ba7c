"""A replayed sub-episode as an animated GIF."""

from __future__ import annotations

import errno
import io
import os
from functools import cache
from pathlib import Path

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
    height, width = replay.walls.shape
    size = (max(width * CELL + 1, LEAST_WIDTH), height * CELL + 1 + CAPTION)
    image = Image.new("RGB", size, _COLOURS["paper"])
    pen = ImageDraw.Draw(image)
    for row in range(height):
        for column in range(width):
            cell = row * width + column
            colour = "wall" if replay.walls[row, column] else "paper"
            colour = "trail" if cell in frame.trail else colour
            left, top = column * CELL, row * CELL
            box = (left, top, left + CELL, top + CELL)
            pen.rectangle(box, fill=_COLOURS[colour], outline=_COLOURS["grid"])
            _draw_things(pen, replay, frame, cell, left, top)
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


def _draw_things(
    pen: ImageDraw.ImageDraw, replay: Replay, frame: Frame, cell: int, left: int, top: int
) -> None:
    """The goal, the proxy's cell and the agent, whichever stand on `cell`."""
    right, bottom = left + CELL, top + CELL
    middle_x, middle_y = left + CELL // 2, top + CELL // 2
    if cell == replay.goal:
        pen.ellipse((left + 3, top + 3, right - 3, bottom - 3), fill=_COLOURS["goal"])
    if cell == replay.proxy_goal:
        corners = [
            (middle_x, top + 2),
            (right - 2, middle_y),
            (middle_x, bottom - 2),
            (left + 2, middle_y),
        ]
        pen.polygon(corners, fill=_COLOURS["proxy"])
    if cell == frame.agent:
        colour = _COLOURS["alarm" if frame.alarmed else "agent"]
        pen.rectangle((left + 5, top + 5, right - 5, bottom - 5), fill=colour)
