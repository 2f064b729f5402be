"""What is declared or said by others, for a terminal: no escape sequence in it reaches one."""


def visible(text: str) -> str:
    """Text for a terminal, on one line: what is not printable is escaped, whoever wrote it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(map(visible, text.split("\n")))
