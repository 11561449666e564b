"""Check instructions whose following a program can see: IFEval's, by its own ids and arguments (arXiv:2311.07911).

The checks judge as IFEval's own do, with three differences: keywords are texts, not regular expressions; sentences and
words in capitals are counted by `sentences.py` instead of NLTK; the language detector has a fixed seed.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from langdetect import DetectorFactory, LangDetectException, detect

from selftrain.errors import DataError, near
from selftrain.records import Json, JsonValue
from selftrain.verification.sentences import capital_words, sentences, words

# The detector draws at random; without a seed it says different things of the same short text.
DetectorFactory.seed = 0

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""What a constrained response may say."""
RELATIONS = ("less than", "at least")

_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}


class Instruction(NamedTuple):
    """An instruction: its id, and the arguments that it has."""

    id: str
    arguments: Json


def read_instructions(meta: Json) -> list[Instruction]:
    """Read the instructions of a problem: `instructions`, or IFEval's `instruction_id_list` and `kwargs`.

    Raises DataError where there are none, or one is unknown or lacks an argument.
    """
    listed = meta.get("instructions")
    if listed is None and "instruction_id_list" in meta:
        ids, arguments = meta["instruction_id_list"], meta.get("kwargs") or []
        if len(ids) != len(arguments):
            raise DataError(f"there are {len(ids)} instruction ids, but {len(arguments)} kwargs; give one for each")
        listed = [{"id": each, **given} for each, given in zip(ids, arguments, strict=True)]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise DataError('the problem has no instructions; give meta["instructions"], a list of {"id": ..., arguments}')
    return [_read(each) for each in listed]


def _read(listed: JsonValue) -> Instruction:
    if not isinstance(listed, Mapping) or not isinstance(listed.get("id"), str):
        raise DataError(f'an instruction is {listed!r}; it must be {{"id": ..., arguments}}')
    known: str = listed["id"]
    if known not in CHECKS:
        raise DataError(f"unknown instruction {known!r}{near(known, CHECKS)} (there are {', '.join(CHECKS)})")
    # The hub's copy of IFEval fills up the arguments of all other instructions with nulls.
    arguments = {key: value for key, value in listed.items() if key != "id" and value is not None}
    taken = list(inspect.signature(CHECKS[known]).parameters)[1:]
    if sorted(arguments) != sorted(taken):
        raise DataError(f"instruction {known!r} takes {_named(taken)}; it was given {_named(arguments)}")
    for key in arguments:
        if key.endswith("relation") and arguments[key] not in RELATIONS:
            raise DataError(f"instruction {known!r}: {key} is {arguments[key]!r}; it can be {' or '.join(RELATIONS)}")
    return Instruction(known, arguments)


def _named(names: Sequence[str] | Json) -> str:
    return ", ".join(sorted(names)) or "no arguments"


def followed(instruction: Instruction, response: str, *, loose: bool = False) -> bool:
    """Whether a response follows an instruction; an empty one follows none.

    Loose is IFEval's: it is enough that the response follows it without its first line, its last line or its asterisks.
    """
    check = CHECKS[instruction.id]
    return any(form.strip() and check(form, **instruction.arguments) for form in _forms(response, loose))


def _forms(response: str, loose: bool) -> list[str]:
    if not loose:
        return [response]
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [form for each in cut for form in (each, each.replace("*", ""))]


def _holds(count: int, relation: str, bound: int) -> bool:
    return count < bound if relation == "less than" else count >= bound


def _in_language(text: str, language: str) -> bool:
    """Whether the detector says this language; a text without features to detect counts as following, as in IFEval."""
    try:
        return bool(detect(text) == language)
    except LangDetectException:
        return True


def _existence(text: str, keywords: Sequence[str]) -> bool:
    return all(each.lower() in text.lower() for each in keywords)


def _frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _holds(text.lower().count(keyword.strip().lower()), relation, frequency)


def _forbidden(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text, re.IGNORECASE) for each in forbidden_words)


def _letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _holds(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _holds(len(sentences(text)), relation, num_sentences)


def _words(text: str, num_words: int, relation: str) -> bool:
    return _holds(len(words(text)), relation, num_words)


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    """Whether `***` parts that many paragraphs; only the first and the last may be empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    return all(part.strip() for part in parts[1:-1]) and sum(bool(part.strip()) for part in parts) == num_paragraphs


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Whether two line breaks part that many paragraphs, and the nth begins with the word."""
    paragraphs = text.split("\n\n")
    filled = sum(bool(part.strip()) for part in paragraphs)
    if filled != num_paragraphs or nth_paragraph > filled or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _placeholders(text: str, num_placeholders: int) -> bool:
    return sum(_bracketed(line) for line in text.split("\n")) >= num_placeholders


def _bracketed(line: str) -> int:
    """Count the [...] of a line; by `find`, as a regular expression takes hours for a million opening brackets."""
    count, start = 0, line.find("[")
    while start >= 0 and (end := line.find("]", start)) >= 0:
        count, start = count + 1, line.find("[", end)
    return count


def _postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, num_bullets: int) -> bool:
    lines = [line.strip() for line in text.splitlines()]
    return sum(line.startswith("-") or (line[:1] == "*" and line[1:2] != "*") for line in lines) == num_bullets


def _highlights(text: str, num_highlights: int) -> bool:
    single = [each for each in re.findall(r"\*[^\n*]*\*", text) if each.strip("*").strip()]
    double = [each for each in re.findall(r"\*\*[^\n*]*\*\*", text) if each[2:-2].strip()]
    return len(single) + len(double) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections


def _json(text: str) -> bool:
    bare = re.sub(r"^```(?:json|Json|JSON)?|```$", "", text.strip())
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    lines = [(line, line.find("<<"), line.rfind(">>")) for line in text.split("\n")]
    return any(0 <= start < end and line[start:end].strip("<>").strip() for line, start, end in lines)


def _two_responses(text: str) -> bool:
    parts = text.split("******")
    filled = [part.strip() for part in parts if part.strip()]
    return all(part.strip() for part in parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _repeats_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quoted(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    return _holds(capital_words(text), capital_relation, capital_frequency)


CHECKS: Mapping[str, Callable[..., bool]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _in_language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda text: any(option in text for option in OPTIONS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats_prompt,
    "startend:end_checker": _ends_with,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda text: text.isupper() and _in_language(text, "en"),
    "change_case:english_lowercase": lambda text: text.islower() and _in_language(text, "en"),
    "punctuation:no_comma": lambda text: "," not in text,
}
"""What is checked, by IFEval's ids; the parameters after the text are the arguments, by IFEval's names."""
