import pytest

from selftrain.errors import PluginError
from selftrain.verification.steps import split


@pytest.mark.parametrize(
    ("response", "by", "steps"),
    [
        ("7+5=12\n4+8=12\n#### 132", "lines", ("7+5=12\n", "4+8=12\n", "#### 132\n")),
        ("one\n\n  two  \r\nthree\n\n", "lines", ("one\n", "two\n", "three\n")),
        ("one\nstill one\n\ntwo\n \n\nthree", "paragraphs", ("one\nstill one\n\n", "two\n\n", "three\n\n")),
        ("first; second;third", r";\s*", ("first; ", "second;", "third")),
        ("", "lines", ()),
        ("\n \n", "paragraphs", ()),
        ("é 中", "lines", ("é 中\n",)),
    ],
)
def test_a_response_is_cut_into_steps(response: str, by: str, steps: tuple[str, ...]) -> None:
    assert split(response, by) == steps


@pytest.mark.parametrize(("by", "why"), [("(", "neither lines nor paragraphs"), ("x*", "separates nothing")])
def test_an_expression_that_cannot_separate_is_refused(by: str, why: str) -> None:
    with pytest.raises(PluginError, match=why):
        split("a\nb", by)
