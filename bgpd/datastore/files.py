"""Resource files as texts: what is in them, and a text with one resource replaced, added or removed.

An edit touches only the document it is about: comments, order and spelling of the other documents of a file
stay as their author left them. Pure; reading and writing files is `directory_tree`'s.
"""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import PurePath
from urllib.parse import quote

from bgpd.resources import Key, Resource, dump_documents, encode, load_documents, to_document

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_LONGEST = 200  # octets; what makes it a name of its own, and a suffix, come behind it
_KIND = re.compile(r"""(?:^|[\s{,])["']?kind["']?\s*:\s*["']?(\w+)""")
_NAME = re.compile(r"""[\s{,]["']?name["']?\s*:\s*["']?([\w.-]+)""")
_NODE = re.compile(r"""[\s{,]["']?node["']?\s*:\s*["']?([\w.-]+)""")
_CIDR = re.compile(r"""[\s{,]["']?cidr["']?\s*:\s*["']?([\w.:/]+)""")
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


def revision_of(resource: Resource) -> int:
    """A digest of the content, 56 bits: equal content, equal revision."""
    return int.from_bytes(blake2b(encode(resource), digest_size=7).digest(), "big")


def path_for(key: Key) -> PurePath:
    """Where a resource that is in no file yet is written, relative to the directory."""
    parts = [f"{key.kind.lower()}s", *([key.namespace] if key.namespace else []), key.name]
    *folders, name = map(_file_name, parts)
    return PurePath(*folders, f"{name}.yaml")


def _file_name(part: str) -> str:
    """A name that is not hidden and that file systems take, which have 255 octets for it."""
    text = quote(part, safe=":@+=,").replace("%2F", "_")
    text = f"%2E{text[1:]}" if text.startswith(".") else text
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}-{blake2b(text.encode(), digest_size=8).hexdigest()}"


def edited(text: str, edits: Mapping[Key, Resource | None], place: str) -> str:
    """`text` with each key's resource replaced, added at the end, or (None) removed; "" if nothing is left.

    Raises ResourceError, which names `place`, if a document of `text` is not readable by itself.
    """
    remaining = dict(edits)
    if place.endswith(".json") or text.lstrip()[:1] in ("{", "["):
        kept = [
            changed
            for resource in load_documents(text, place)
            if (changed := remaining.pop(resource.key, resource)) is not None
        ]
        kept += [resource for resource in remaining.values() if resource is not None]
        return _as_json(kept) if kept else ""
    documents: list[str] = []
    for document in _SEPARATOR.split(text):
        resources = _in_document(document, place)
        if not any(resource.key in remaining for resource in resources):
            if document.strip():
                documents.append(document.strip("\n") + "\n")
            continue
        for resource in resources:
            changed = remaining.pop(resource.key, resource)
            if changed is not None:
                documents.append(dump_documents([changed]))
    documents += [dump_documents([resource]) for resource in remaining.values() if resource is not None]
    if not any(_in_document(document, place) for document in documents):
        return ""
    return "---\n".join(documents)


def unread_in(text: str, before: Iterable[Key]) -> tuple[Key, ...]:
    """What is missing with a text that cannot be read, as far as its words tell.

    If they tell nothing, what was in it `before`.
    """
    named = [_named_in(document) for document in _SEPARATOR.split(text)]
    return tuple(dict.fromkeys(key for key in named if key is not None)) or tuple(before)


def _named_in(document: str) -> Key | None:
    kind, name = _KIND.search(document), _NAME.search(document)
    if kind is not None and kind[1] == "BlockAffinity":
        node, cidr = _NODE.search(document), _CIDR.search(document)
        return Key(kind[1], f"{node[1]}/{cidr[1]}") if node and cidr else None
    return Key(kind[1], name[1]) if kind and name else None


def _in_document(text: str, place: str) -> list[Resource]:
    """The resources of one document, of which what comes before the first (`%YAML 1.1`) has none."""
    if all(line[:1] in ("", "%", "#") for line in text.splitlines()):
        return []
    return load_documents(text, place)


def _as_json(resources: list[Resource]) -> str:
    documents = [to_document(resource) for resource in resources]
    whole = documents[0] if len(documents) == 1 else documents
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
