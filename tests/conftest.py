"""Settings of all tests."""

import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Speed is measured in benchmarks and never asserted: a busy machine must not fail a test.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where libraries leave temporary files, removed at the end.

    Gymnasium-Robotics leaves one for every ant maze it makes.
    """
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))  # for the processes that tests start
        yield
    shutil.rmtree(folder, ignore_errors=True)
