"""What is said when a plan cannot be written in a speaker's language."""


class RenderError(ValueError):
    """A value that a configuration language has no safe way to express; ``place`` names where it comes
    from.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what
