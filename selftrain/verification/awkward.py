"""Responses that models do write, or that somebody will send: what a verifier must live through.

None of them is right, and none may end a verifier's process, hang it, or make it raise.
"""

from collections.abc import Mapping

MEGABYTE = 1 << 20

AWKWARD: Mapping[str, str] = {
    "empty": "",
    "white space": " \n\t\r\n ",
    "a megabyte of one letter": "a" * MEGABYTE,
    "a megabyte of digits": "9" * MEGABYTE,
    "a megabyte of brackets": "(" * MEGABYTE,
    "a megabyte of lines": "and so it is 7, or 8.\n" * (MEGABYTE // 22),
    "a megabyte of unclosed marks": r"\boxed{" * (MEGABYTE // 7),
    "deeply nested JSON": "[" * 100_000,
    "all bytes": bytes(range(256)).decode("latin-1") * 4,
    "control characters": "".join(map(chr, range(32))) + "\x7f\x1b[2J\x00",
    "lone surrogates": "The answer is \ud800, or \udfff.",
    "Chinese": "答案是四十二。",
    "Arabic, right to left": "الجواب هو ٤٢.",
    "emoji and combining marks": "👩‍👩‍👧‍👦 a\u0301\u0327\u0300 \u202e4 \ufeff",
    "unclosed code fence": "```python\nprint('never closed",
    "format directives": r"{0} {answer!r} %s %(x)d \N{no} \1 $& ${x}",
    "numbers that are none": "nan, inf, -inf, 1e999999999, 0/0, 1/0, --5, 1.2.3",
    "special tokens": "</s><|im_end|><|endoftext|>[/INST]</think><pad>",
}
"""By what each of them is."""
