import os
from collections.abc import Iterator

import pytest

# Test processes run side by side, one a core: none may take all cores for one product of matrices.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ALONE = "test_recipes.py"
"""A file of many long tests without fixtures to share: they are spread over the processes one by one."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process: their fixtures start engines."""
    for item in items:
        if item.path.name != ALONE:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(scope="session", autouse=True)
def programs_noted_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that tests name are noted in a folder of theirs, not in the home of who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
