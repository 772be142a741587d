"""What has become of the raw files that a step has read, for the record of its outputs.

The step notes what it reads (`imbnas.data.fingerprints`). Here names, sizes and times are compared with that, and what
has another time is read again: a touch or a copy is no change. What no step has read is not read either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from imbnas.data import fingerprints
from imbnas.data.fingerprints import Contents, Reading
from imbnas.errors import UserError, visible
from imbnas.params.config import Params

CHANGED = "changed"
"""Stands for whatever differs from what was read."""
Sight = tuple[str, str, tuple[tuple[str, str | None], ...]]
"""Name, root, and names below the root, of a dataset, for one look at it on behalf of many jobs."""


class RawFiles:
    """The raw files as they are now; each dataset is looked at once."""

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._reading = cache(_reading)
        self._contents = cache(self._look)

    def of(self, section: str, params: Params, accept: bool) -> Callable[[Path, str | None], str | None] | None:
        """Return what `outputs.settle` asks about the raw files of `section`, None where nobody watches them.

        Their reader may compare them with published checksums, or the step may download them. With `accept` they are
        taken as they are for what the outputs were made of.
        """
        part = getattr(params, section)
        if part.download:
            return None
        sight = (part.dataset, part.root, tuple(sorted(part.named.items())))

        def read(output: Path, record: str | None) -> str | None:
            known = fingerprints.noted(Path(), output) or _parts(record)
            return self._accept(sight, output) if accept else known and self._compare(sight, known)

        return read

    def _compare(self, sight: Sight, known: tuple[str, str]) -> str:
        """Return `known` as the text of a record if the files are still those, else CHANGED."""
        now = self._reading(sight)
        if now is None or now.listing != known[0]:
            return CHANGED
        contents = self._contents(sight, known[1])
        return ":".join(known) if contents is not None and contents.digest == known[1] else CHANGED

    def _accept(self, sight: Sight, output: Path) -> str | None:
        now = self._reading(sight)
        contents = self._contents(sight, "") if now else None
        if now is None or contents is None:
            return None
        fingerprints.note(Path(), output, now, contents)
        return f"{now.listing}:{contents.digest}"

    def _look(self, sight: Sight, former: str) -> Contents | None:
        """Return the contents of the files, None where they cannot be read or are not those of the digest `former`."""
        now = self._reading(sight)
        assert now is not None

        def tell(count: int) -> None:
            line = f"{sight[1]}: {count} files have other dates than when they were read, comparing their contents"
            print(visible(line), file=sys.stderr, flush=True)

        known = fingerprints.recall(Path(), now)
        try:
            contents = fingerprints.present_contents(Path(), now, former, tell)
        except (UserError, OSError):
            # The step will say what is wrong with them.
            return None
        if contents is not None and contents != known:
            fingerprints.remember(Path(), now, contents)
        return contents


def _reading(sight: Sight) -> Reading | None:
    name, root, splits = sight
    try:
        return fingerprints.files_read(name, Path(root), dict(splits))
    except (UserError, OSError):
        return None


def _parts(record: str | None) -> tuple[str, str] | None:
    listing, mark, content = (record or "").partition(":")
    return (listing, content) if mark else None
