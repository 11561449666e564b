"""Samples of one problem, for verifiers that judge them together."""

from collections.abc import Sequence

from selftrain.records import Problem, Sample


def group(
    problem: Problem,
    texts: Sequence[str],
    *,
    models: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> list[Sample]:
    return [
        Sample.given(
            problem,
            text,
            id=f"{problem.id}-{index}",
            model=models[index] if models else "m",
            index=index,
            template=templates[index] if templates else "direct",
        )
        for index, text in enumerate(texts)
    ]
