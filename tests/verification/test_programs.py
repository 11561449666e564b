"""Code is found in a response by one rule."""

import pytest

from selftrain.verification.programs import SQL, blocks, code_in, completed, defined

BARE = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (BARE, BARE),
        (f"Here:\n```python\n{BARE}```\nDone.", BARE),
        (f"```py\n{BARE}```", BARE),
        (f"```Python3 title=x\n{BARE}```", BARE),
        (f"~~~python\n{BARE}~~~", BARE),
        (f"```\n{BARE}```", BARE),
        (f"````python\n{BARE}````", BARE),
        (f"```python\n{BARE}", BARE),
        (f"```python\nold\n```\nBetter:\n```python\n{BARE}```", BARE),
        (f"```python\n{BARE}```\nRun it:\n```bash\npython f.py\n```", BARE),
        (f"```python\n{BARE}```\nIt prints\n```\n3\n```", BARE),
        ("  ```python\n  def f(x):\n      return x\n  ```", BARE),
        (f"<think>```python\nwrong\n```</think>\n```python\n{BARE}```", BARE),
        ("```bash\nls\n```", "```bash\nls\n```"),
        ("    return x\n", "    return x\n"),
        ("", ""),
    ],
)
def test_code_is_found(response: str, code: str) -> None:
    assert code_in(response) == code


def test_of_several_blocks_the_last_that_defines_the_name_is_taken() -> None:
    response = f"```python\n{BARE}```\nUse it:\n```python\nprint(f(1))\n```"
    assert code_in(response, defines="f") == BARE
    assert code_in(response) == "print(f(1))\n"
    assert code_in(response, defines="g") == "print(f(1))\n"


def test_other_languages_have_their_own_marks() -> None:
    response = "```sql\nSELECT 1\n```\n```python\nprint(1)\n```"
    assert code_in(response, languages=SQL) == "SELECT 1\n"
    assert [block.language for block in blocks(response)] == ["sql", "python"]


@pytest.mark.parametrize(
    ("program", "name", "has"),
    [
        ("def f(): pass", "f", True),
        ("async def f(): pass", "f", True),
        ("f = lambda: 1", "f", True),
        ("if True:\n    f = 1", "f", True),
        ("from math import sqrt as f", "f", True),
        ("def g():\n    def f(): pass", "f", False),
        ("g(f)", "f", False),
        ("def f(:\n  !", "f", True),
        ("this is def f", "f", False),
    ],
)
def test_what_a_program_defines(program: str, name: str, has: bool) -> None:
    assert defined(program, name) is has


PROMPT = 'import math\n\ndef helper(x):\n    return x\n\ndef f(x):\n    """Say x."""\n'


@pytest.mark.parametrize(
    "code",
    [
        "    return helper(math.floor(x))\n",
        "return helper(math.floor(x))",
        "def f(x):\n    return helper(math.floor(x))",
        "from __future__ import annotations\ndef f(x: int) -> Never:\n    return helper(math.floor(x))",
    ],
)
def test_a_response_completes_the_prompt_or_brings_its_own_function(code: str) -> None:
    scope: dict[str, object] = {}
    exec(completed(PROMPT, code, "f"), scope)
    function = scope["f"]
    assert callable(function)
    assert function(3.5) == 3


def test_without_a_prompt_the_code_is_the_program() -> None:
    assert completed("", BARE, "f") == BARE
