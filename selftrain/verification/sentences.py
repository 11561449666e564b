"""Count sentences and words of a text, by plain rules that stay close to NLTK's.

A sentence ends at a run of `.`, `!`, `?`, or of their full-width forms, with the quotes and brackets that close after
it, where white space or the end follows. A full stop doesn't end one after a title (Dr.), an initial (J.), an ellipsis
or another abbreviation (e.g., U.S.), except that the latter two do before a word that commonly begins a sentence. The
number of a list item (`1.`) counts as a sentence of its own, as it does with NLTK.
"""

import re
from collections.abc import Iterator


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_END = re.compile(r"(?<![.!?])(?P<mark>[.!?]++|[。！？]++)[\"'”’)\]}*]*+(?=\s|$|(?<=[。！？]))")
_TITLES = _set("mr mrs ms dr prof st gen rep sen gov capt lt col sgt rev hon messrs mt ft")
_ABBREVIATIONS = _set(
    "e.g i.e etc vs cf al approx inc ltd co corp jr sr est dept fig no vol pp u.s u.k u.n d.c ph.d a.m p.m b.c a.d "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun ave blvd rd"
)
_STARTERS = _set(
    "the a an this that these those he she it they we you i but and however in on at if when while there here our "
    "his her its their as for so by with what why how who where after before although because"
)
_LAST_WORD = re.compile(r"[\w.]*\w(?=\W*$)")
_NEXT_WORD = re.compile(r"\W*(\w+)")
_CAPITALS_APART = re.compile(r"[\s,;:@#$%&?!()\[\]{}<>\"“”`]+|--+|\.{2,}")
_CONTRACTION = re.compile(r"(?i)(n't|'(?:s|m|d|ll|re|ve))$")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    found = []
    start = 0
    for end in _ends(text):
        found.append(text[start:end].strip())
        start = end
    return [each for each in [*found, text[start:].strip()] if each]


def words(text: str) -> list[str]:
    """Return the runs of letters, digits and underscores."""
    return re.findall(r"\w+", text)


def capital_words(text: str) -> int:
    """Count the words in capital letters; a hyphenated word is one, a contraction is two (DON'T is DO and N'T)."""
    count = 0
    for token in _CAPITALS_APART.split(text):
        match = _CONTRACTION.search(token)
        parts = (token[: match.start()], match[1]) if match else (token,)
        count += sum(part.isupper() for part in parts)
    return count


def _ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        if match["mark"].strip(".") or _stops(text, match):
            yield match.end()


def _stops(text: str, match: re.Match[str]) -> bool:
    """Whether a full stop ends a sentence, by the words around it."""
    line = text[max(0, match.start() - 40) : match.start()]
    before = _LAST_WORD.search(line)
    word = before[0].lower() if before and before.end() == len(line) else ""
    following = _NEXT_WORD.match(text[match.end() : match.end() + 60])
    begins = following is not None and following[1][:1].isupper() and following[1].lower() in _STARTERS
    if len(match["mark"]) > 1:
        return begins or following is None
    if following is None:
        return True
    if word in _TITLES or (len(word) == 1 and word.isalpha() and word != "i"):
        return False
    return begins if word in _ABBREVIATIONS else True
