"""The paths of one prefix, kept so that prefixes with the same paths share one object.

Redundant routers say the same table each, so prefixes in a row mostly have the same paths, and mostly the
same happens to them. Left out: which of the paths is best (see `decision`).
"""

from typing import TypeAlias

from bgpd.rib.path import Path, Source

FEW = 32  # paths of a prefix that a tuple holds; a peer with add-path may have ten thousand

Choices: TypeAlias = tuple[Path, ...] | dict[Path, None]
"""The paths of a prefix, in the order of their coming. Of the dictionaries only the keys count.

A tuple may serve many prefixes; a dictionary belongs to one.
"""


def has(choices: Choices, source: Source) -> bool:
    """Whether one of the paths is of this source; where they are many, it may be."""
    if isinstance(choices, dict):
        return True
    return source in [path.source for path in choices]


class Sharing:
    """Choices with a path more or less: one object for prefixes in a row of which the same is so."""

    __slots__ = ("_fewer", "_fewer_of", "_left", "_more", "_more_of", "_new")

    def __init__(self) -> None:
        self._more_of: Choices = ()
        self._new: Path | None = None
        self._more: Choices = ()
        self._fewer_of: Choices = ()
        self._left: Path | None = None
        self._fewer: Choices = ()

    def more(self, choices: Choices, path: Path) -> Choices:
        """With `path` as the last; a dictionary is changed itself."""
        if path is self._new and choices is self._more_of:
            return self._more
        if isinstance(choices, dict):
            choices[path] = None
            return choices
        more = (*choices, path)
        if len(more) > FEW:
            return dict.fromkeys(more)
        self._more_of, self._new, self._more = choices, path, more
        return more

    def fewer(self, choices: Choices, path: Path) -> Choices:
        """Without `path`; a dictionary is changed itself."""
        if path is self._left and choices is self._fewer_of:
            return self._fewer
        if isinstance(choices, dict):
            del choices[path]
            return choices
        fewer = tuple([each for each in choices if each is not path])
        self._fewer_of, self._left, self._fewer = choices, path, fewer
        return fewer
