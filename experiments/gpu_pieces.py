"""The finished pieces of a part of `make gpu`, in one file, so that a later run goes on with the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from gpu_setting import Setting, commit


class Pieces:
    """A JSON file with a record per piece: its value, seconds, machine, and the code that made it."""

    def __init__(self, setting: Setting, part: str, code: str) -> None:
        """Open the file of a part; pieces of another `code` are made anew, unless it is "" and all are kept."""
        self._file = setting.work / "pieces" / f"{part}.json"
        self._setting, self._code = setting, code
        self.records: dict[str, Any] = json.loads(self._file.read_text()) if self._file.is_file() else {}

    def done(self, name: str) -> bool:
        """Return whether a piece is finished."""
        return name in self.records and self._code in ("", self.records[name]["code"])

    def make(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the value of a piece, made by `call` and kept unless it is finished already."""
        if not self.done(name):
            begin = time.monotonic()
            value = call()
            self.records[name] = {
                "value": value,
                "seconds": round(time.monotonic() - begin, 1),
                "code": self._code,
                "commit": commit(self._setting.pack),
                **self._setting.machine(),
            }
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(self.records, indent=1) + "\n")
            part.replace(self._file)
        return self.records[name]["value"]
