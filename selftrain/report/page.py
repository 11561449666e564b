"""The report as one HTML file that needs nothing else: text from data is escaped, and no script but ours may run."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import selftrain
from selftrain.report.parts import Figure, Section

FOLDER = Path(__file__).parent
SCRIPTS = ("shown.js", "charts.js", "browser.js", "page.js")
FILTERS = (
    ("round", "Round"),
    ("split", "Split"),
    ("stage", "Stage"),
    ("status", "Verdict"),
    ("side", "Kept or dropped"),
    ("verifier", "Verifier"),
    ("bin", "Passed at first"),
    ("change", "Change"),
)
SNIPPET = "window.vegaEmbed = vegaEmbed;"
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Characters that have no shape, or change that of others: controls, zero widths, directions, lone surrogates."""
CONTROLS = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI"
    " DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split()


def visible(value: Any) -> Any:
    """Return a text with its invisible characters named; anything else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return "" if value is None else value
    return INVISIBLE.sub(lambda found: _name(ord(found[0])), value)


def _name(code: int) -> str:
    return f"\u27e8{CONTROLS[code]}\u27e9" if code < len(CONTROLS) else f"\u27e8U+{code:04X}\u27e9"


def as_script(value: Any) -> Markup:
    """Return a value as JSON that can stand in a script element: no text in it can end that element."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))


def _finite(value: Any) -> Any:
    """Return a value without what JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def sections_html(sections: Sequence[Section]) -> str:
    """Return sections as HTML, without the charts' data."""
    return _templates().get_template("sections.html").render(sections=sections)


def charts(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the specifications of all charts of sections, by figure."""
    figures: list[Figure] = [figure for section in sections for figure in section.figures()]
    return {figure.id: {"title": figure.title, "spec": figure.spec} for figure in figures}


def head_html(head: Mapping[str, Any]) -> str:
    """Return what stands above the sections as HTML."""
    return _templates().get_template("head.html").render(head=head)


def page(*, title: str, head: Mapping[str, Any], sections: Sequence[Section], data: Mapping[str, Any] | None) -> str:
    """Return the whole page; `head` is what stands above the sections, `data` what the sample browser shows, if any."""
    scripts = [Markup(text) for text in (bundle(), *(_file(name) for name in SCRIPTS))]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            head=head,
            sections=sections,
            browser=data is not None,
            filters=FILTERS,
            version=selftrain.__version__,
            charts=as_script(charts(sections)),
            data=as_script(data or {}),
            style=Markup(_file("report.css")),
            scripts=scripts,
            policy=Markup(
                f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:;"
                " connect-src 'self'; base-uri 'none'; form-action 'none'"
            ),
        )
    )


@cache
def bundle() -> str:
    """Return Vega-Lite with all it needs as one script, from the package that carries it; no network is used."""
    import vl_convert

    text: str = vl_convert.javascript_bundle(SNIPPET)
    # Inside an HTML script element a closing tag ends the script, also within a string.
    text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    # Its own names stay its own; it leaves vegaEmbed on the window.
    return f"(() => {{{text}\n}})();"


@cache
def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
