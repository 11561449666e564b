from pathlib import Path

import pytest

from tests.backends import tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny Llama."""
    return tiny.make(tmp_path_factory.mktemp("tiny"))
