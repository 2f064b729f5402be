"""The operator's command."""


def main() -> None:
    """Run the command line."""
