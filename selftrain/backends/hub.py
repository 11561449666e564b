"""Rows of hub data sets, through `datasets`."""

from collections.abc import Iterator

from selftrain.datafiles import FileRow
from selftrain.errors import DataError


def hub_rows(name: str, *, config: str | None = None, split: str = "train") -> Iterator[FileRow]:
    """Yield the rows of a hub data set's split; raises DataError where it can't be had."""
    import datasets
    import huggingface_hub

    # Its lines about each retry would bury the one that counts.
    huggingface_hub.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except (
        OSError,
        ValueError,
        RuntimeError,
        datasets.exceptions.DatasetsError,
        huggingface_hub.errors.HfHubHTTPError,
    ) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"hub data set {name!r} (config {config}, split {split}) can't be loaded: {reason}") from error
    for number, values in enumerate(rows, start=1):
        yield FileRow(f"{name} {split} row {number}", values)
