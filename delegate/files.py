"""Files that are there whole or not at all, names on one line, and JSON that is JSON."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or what a link points to, in place of what is there once all of it is on disk.

    Raises OSError, naming the path, where that is not possible; what was there stays then.
    """
    target = path.resolve()
    making = target.with_name(f".{target.name[:40]}.{os.getpid()}.making")
    try:
        with making.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.is_file():
            shutil.copymode(target, making)
        making.replace(target)
    except BaseException as error:
        with suppress(OSError):
            making.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise


def shown(path: Path | str) -> str:
    """The path or name as it was given, on one line whatever characters are in it."""
    text = str(path)
    return text if text and text.isprintable() else repr(text)


def parse_json(text: str) -> Any:
    """What that JSON says. Raises ValueError for NaN and Infinity too, which `json.loads` takes."""
    return json.loads(text, parse_constant=_not_json)


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
