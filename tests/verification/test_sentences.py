import pytest

from selftrain.verification.sentences import capital_words, sentences, words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("   \n", 0),
        ("One sentence", 1),
        ("It rains. We stay.", 2),
        ("Dr. Smith met Mr. J. Jones. They talked.", 2),
        ("It costs 3.50 dollars! Really? Yes.", 3),
        ('He said "Go." Then he left.', 2),
        ("Wait... what is it?", 1),
        ("Wait... The end.", 2),
        ("Fruits, e.g. apples, etc. are good.", 1),
        ("He lives in the U.S. The city is big.", 2),
        ("Go to example.com now", 1),
        ("今日は晴れです。明日は雨です。", 2),
        ("." * 100_000 + "x", 1),
        ("a." * 50_000, 1),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_sentences_hold_the_whole_text() -> None:
    assert sentences("It rains.  We stay!\nDr. No came. and") == ["It rains.", "We stay!", "Dr. No came.", "and"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("I AM well", 2),
        ("DON'T go", 2),
        ("A WELL-KNOWN fact", 2),
        ("the U.S. team", 1),
        ("été ÉTÉ", 1),
        ("42", 0),
    ],
)
def test_words_in_capitals_are_counted(text: str, count: int) -> None:
    assert capital_words(text) == count


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words("Don't stop: naïve 3.5") == ["Don", "t", "stop", "naïve", "3", "5"]
