from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain.backends.trainer import TrlTrainer
from tests.backends import tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny Llama with tied embeddings."""
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def reward_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny reward model."""
    return tiny.classifier(tmp_path_factory.mktemp("reward"), tiny_model)


@pytest.fixture(scope="session")
def process_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny process model with two labels."""
    return tiny.classifier(tmp_path_factory.mktemp("process"), tiny_model, tokens=True, labels=2)


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrlTrainer]:
    """One trainer for all tests."""
    trainer = TrlTrainer(log=tmp_path_factory.mktemp("trainer") / "trainer.log")
    yield trainer
    trainer.close()


@pytest.fixture(scope="session")
def start(trainer: TrlTrainer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint folder of the tiny model as round 0 has it."""
    folder = tmp_path_factory.mktemp("round-00") / "checkpoint"
    trainer.prepare(tiny_model, folder)
    return folder
