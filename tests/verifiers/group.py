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
        Sample(
            id=f"{problem.id}-{index}",
            problem=problem.id,
            index=index,
            text=text,
            prompt_ids=(),
            completion_ids=(),
            tokenizer="",
            finish="stop",
            model=models[index] if models else "m",
            template=templates[index] if templates else "direct",
        )
        for index, text in enumerate(texts)
    ]
