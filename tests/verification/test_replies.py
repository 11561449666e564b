r"""What judges say, in their own words: the rule must read the honest replies, and must not guess at the others."""

import pytest

from selftrain.verification import replies

NUMBERS = [
    ("7", 7), ("7/10", 7), ("7 out of 10.", 7), ("[[7]]", 7), ("Rating: [[7]]", 7), ("[[7/10]]", 7), ("**7**", 7),
    ("**Rating: 7**", 7), ("**Rating:** 7/10", 7), ("Rating: **7**", 7), ("Score = 7.5", 7.5), ('{"score": 7}', 7),
    ('```json\n{"reasoning": "sound", "rating": 7}\n```', 7), (r"\boxed{7}", 7), (r"Score: $\boxed{9}$", 9),
    ("I'd give it a good mark.\n\n8", 8), ("The score is 9.", 9), ("Overall Score: 8", 8), ("Final rating: 7", 7),
    ("Step 1: 12+3 = 15, right.\nRating: [[10]]", 10), ("<think>Rating: 2</think>Rating: 9", 9), ("Rating: 7.", 7),
    ("Rating: [[3]] no, wait\nRating: [[4]]", 4), ("Rating: 7 (good)", 7), ("Rating: 7 out of 10", 7),
    ("Mark: 10\n\nIt has no mistake.", 10),
    # not to be read: off the scale, another scale, several, none
    ("Rating: 11", None), ("Rating: 0", None), ("Rating: -3", None), ("4/5", None), ("Rating: 7 out of 5", None),
    ("Rating: 7-8", None), ("Rating: 7 to 8", None), ("7 or 8", None), ("Rating: 70%", None), ("", None),
    ("It has 3 mistakes.", None), ("good", None), ("Rating: [[number]]", None), ("<think>Rating: 7</think>", None),
]  # fmt: skip
SIDES = [
    ("[[A]]", 1), ("[[B]]", 0), ("[[C]]", 0.5), ("[[Tie]]", 0.5), ("A", 1), ("B.", 0), ("**B**", 0), ("Tie", 0.5),
    ("Verdict: A", 1), ("My final verdict is: [[B]]", 0), ("**Winner: Response A**", 1), ("Response A", 1),
    ("The winner is response B.", 0), ('{"winner": "A"}', 1), ("the better response is B", 0), ("Answer: A", 1),
    ("Better: Assistant B", 0), ("A is right, B forgets the carry.\n\n[[A]]", 1), (r"\boxed{B}", 0),
    (r"\boxed{\text{A}}", 1), ("[[A]] is what I would have said, but [[B]]", 0), ("Verdict: A because it is right.", 1),
    ("Preferred response: B", 0), ("<think>Verdict: A</think>\nVerdict: B", 0),
    ("Both are good", None), ("I like A", None), ("A and B", None), ("Winner: A or B", None), ("", None), ("a", None),
    ("A better response would be longer.", None), ("Verdict: Apple", None), ("Answer: a number", None),
    ("The answer is 42.", None), ("The answer is a number", None), ("Response A's answer is better than B", None),
]  # fmt: skip
YES = [
    ("yes", True), ("No.", False), ("**Yes**", True), ("Answer: no", False), ("The answer is yes.", True),
    ("[[yes]]", True), ("It adds up.\nYes.", True), (r"\boxed{no}", False), ("Verdict: incorrect", False),
    ("Correct: yes", True), ("Yes, the answer is right.", True), ("<think>no</think>\nyes", True),
    ('{"correct": true}', True), ('{"correct": false}', False), ("The answer is wrong", False),
    ("maybe", None), ("", None), ("not sure", None), ("The answer is no more than 5.", None), ("yes and no", None),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "wanted"), NUMBERS)
def test_a_rating_is_read_or_not(reply: str, wanted: float | None) -> None:
    assert replies.number(reply, 1, 10) == wanted


@pytest.mark.parametrize(("reply", "wanted"), SIDES)
def test_which_is_better_is_read_or_not(reply: str, wanted: float | None) -> None:
    assert replies.better(reply) == wanted


@pytest.mark.parametrize(("reply", "wanted"), YES)
def test_yes_or_no_is_read_or_not(reply: str, wanted: bool | None) -> None:
    assert replies.yes(reply) is wanted


def test_another_scale() -> None:
    assert replies.number("Score: 0.25", 0, 1) == 0.25
    assert replies.number("-2", -5, 5) == -2
    assert replies.number("Score: 4/5", 1, 5) == 4


def test_a_long_reply_is_read_quickly() -> None:
    assert replies.number("the rating of " * 20_000 + "\nRating: 4", 1, 10) == 4
    assert replies.better("[" * 50_000) is None
    assert replies.yes("**" * 50_000) is None
