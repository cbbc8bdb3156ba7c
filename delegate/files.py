"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to be written, in place of what is there once all of it is on disk.

    Raises OSError, naming the path, where that is not possible; what was there stays then.
    """
    making = path.with_name(f".{path.name}.{os.getpid()}.making")
    try:
        with making.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except BaseException as error:
        making.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises OSError as `written_whole`."""
    with written_whole(path) as file:
        file.write(content)
