"""The table of what is acted on names every field of every model, and nothing else."""

import pytest

from bgpd.resources import MODELS
from bgpd.resources.support import SUPPORT, fields_of, kinds_written_by_services


@pytest.mark.parametrize("kind", SUPPORT)
def test_every_field_of_every_kind_is_in_the_table(kind: str) -> None:
    assert set(SUPPORT[kind]) == set(fields_of(MODELS[kind]))


def test_every_kind_is_in_the_table() -> None:
    assert set(SUPPORT) <= set(MODELS)
    assert kinds_written_by_services() == {"NodeLease", "ServiceReport", "ServiceQuestion"}


def test_what_is_not_acted_on_says_why() -> None:
    texts = [support.what for fields in SUPPORT.values() for support in fields.values()]
    assert all(texts)
    assert not [text for text in texts if "|" in text or text.endswith(".")]
