import time
from typing import Any

import pytest

from selftrain.errors import DataError
from selftrain.verification.instructions import CHECKS, Instruction, followed, read_instructions

GERMAN = "Das Wetter ist heute schön, und wir gehen im Park spazieren."
# Of each instruction: a response that follows it, and one that doesn't.
TABLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["sea", "C++"]}, "By the Sea, in c++.", "By the sea, in C."),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "at least"}, "Cat, concat", "One cat"),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}, "One cat", "Cat and cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "A CAT."),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "at least"}, "see", "so"),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 2, "let_relation": "less than"}, "Oh!", "Oh!!"),
    ("language:response_language", {"language": "de"}, GERMAN, "The weather is nice today, let us walk in the park."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Just one.", "One. Two."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two.", "Just one."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", "one two three"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "Hello"},
        '"Hello!" he said.\n\nBye.',
        "Hello!\nBye.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [town]", "[name] of [town"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. Write!", "Bye.\nPS: Write!"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. More", "Bye.\nP.S. More"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "So:\n* one\n - two", "* one\n* two\n* three"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ****"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2\nb",
        "Section 1\na\nSection 2\nb",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<Ode>>\nFreude", "<< >>\nFreude"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why? "}, "why? Because.", "Because."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So it was. "the END."', "The end. Or not."),
    ("startend:quotation", {}, ' "yes" ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "YES I do",
        "I do",
    ),
    ("change_case:english_capital", {}, "THE WEATHER IS NICE TODAY.", "The weather is nice today."),
    ("change_case:english_lowercase", {}, "the weather is nice today.", GERMAN.lower()),
    ("punctuation:no_comma", {}, "yes and no", "yes, no"),
]


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), TABLE)
def test_an_instruction_is_followed_or_not(name: str, arguments: dict[str, Any], right: str, wrong: str) -> None:
    (instruction,) = read_instructions({"instructions": [{"id": name, **arguments}]})
    assert followed(instruction, right)
    assert not followed(instruction, wrong)
    assert not followed(instruction, " \n")


def test_every_instruction_is_in_the_table() -> None:
    assert {name for name, *_ in TABLE} == set(CHECKS)


def test_ifevals_own_columns_are_read() -> None:
    meta = {
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{"num_words": None}, {"relation": "at least", "num_words": 300, "keywords": None}],
    }
    words = Instruction("length_constraints:number_words", {"relation": "at least", "num_words": 300})
    assert read_instructions(meta) == [Instruction("punctuation:no_comma", {}), words]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "has no instructions"),
        ({"instructions": []}, "has no instructions"),
        ({"instructions": ["punctuation:no_comma"]}, "an instruction is 'punctuation:no_comma'"),
        ({"instructions": [{"id": "punctuation:no_coma"}]}, "did you mean punctuation:no_comma"),
        ({"instructions": [{"id": "keywords:existence"}]}, "takes keywords; it was given no arguments"),
        ({"instructions": [{"id": "punctuation:no_comma", "n": 1}]}, "takes no arguments; it was given n"),
        (
            {"instructions": [{"id": "length_constraints:number_words", "relation": "about", "num_words": 3}]},
            "relation is 'about'; it can be less than or at least",
        ),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "1 instruction ids, but 0 kwargs"),
    ],
)
def test_instructions_that_cannot_be_checked_are_an_error(meta: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_instructions(meta)


@pytest.mark.parametrize(
    ("response", "strict"),
    [("a, b", False), ("Sure, here it is:\nyes", False), ("yes\nI hope, it helps", False), ("yes", True)],
)
def test_loose_forgives_the_first_and_the_last_line(response: str, strict: bool) -> None:
    no_comma = Instruction("punctuation:no_comma", {})
    assert followed(no_comma, response) == strict
    assert followed(no_comma, response, loose=True) == (response != "a, b")


def test_loose_forgives_asterisks() -> None:
    capital = Instruction("startend:quotation", {})
    assert not followed(capital, '**"yes"**')
    assert followed(capital, '**"yes"**', loose=True)


def test_the_language_of_a_short_text_is_always_the_same() -> None:
    english = Instruction("language:response_language", {"language": "en"})
    assert len({followed(english, "ok no si, la le an") for _ in range(20)}) == 1


@pytest.mark.parametrize(
    "response", ["[" * 10**6, "<" * 10**6, "*" * 10**6, "." * 10**6 + "x", "a " * 10**6, "雨" * 10**6]
)
def test_huge_responses_take_little_time(response: str) -> None:
    started = time.perf_counter()
    for name, arguments, *_ in TABLE:
        followed(Instruction(name, arguments), response)
    assert time.perf_counter() - started < 5
