"""Text that comes from operators, put where it can do no harm.

BIRD's strings and ExaBGP's have no escapes: a string ends at the next quote or line end, whatever stands
before. So a value with a quote, a backslash or a control character is refused where it matters (a password,
an interface pattern) and made harmless where it is only for reading (a comment, a description). Symbols are
built from letters, digits and ``_`` alone.
"""

import re
from hashlib import sha256

from bgpd.render.errors import RenderError

MAX_SYMBOL = 60
_UNSAFE_IN_SYMBOL = re.compile(r"[^A-Za-z0-9_]")


def quoted(text: str, place: str, limit: int = 253) -> str:
    """Give ``text`` as a quoted string. Raises ``RenderError`` naming ``place``, never the text itself.

    The text may be a password, so messages tell only what is wrong with it.
    """
    if not text:
        raise RenderError(place, "is empty")
    if len(text.encode("utf-8", "surrogatepass")) > limit:
        raise RenderError(place, f"is longer than {limit} octets")
    if any(character in text for character in "\"'\\"):
        raise RenderError(place, "contains a quote or a backslash, which the language has no way to express")
    if not text.isprintable() or not text.isascii():
        raise RenderError(place, "contains a control character or one that is not ASCII")
    return f'"{text}"'


def readable(text: str) -> str:
    """Give ``text`` for a comment: one line of printable ASCII, no backslash (ExaBGP joins lines there)."""
    return "".join(
        character if character.isascii() and character.isprintable() and character != "\\" else "?"
        for character in text[:200]
    )


def described(text: str) -> str:
    """Give ``text`` as a quoted string that is only for reading: what cannot stand in one is left out."""
    return '"' + "".join(character for character in readable(text) if character not in "\"'") + '"'


def symbol(*parts: str) -> str:
    """Give a symbol made of ``parts``; over-long or altered names end in a digest that keeps them apart."""
    text = "_".join(parts)
    safe = _UNSAFE_IN_SYMBOL.sub("_", text)
    if safe == text and len(text) <= MAX_SYMBOL:
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{safe[: MAX_SYMBOL - 11]}_{digest}"
