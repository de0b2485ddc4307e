"""Which archives were verified, so that none is read again while its size and time of change stay the same."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dermask import files

RECORD = ".dermask-download"
"""The record in the target folder: JSON, without the ending, so that no reader takes it for labels."""


class Record:
    """The verified archives of one target folder; a record that cannot be read counts as empty."""

    _KEYS = ("path", "size", "mtime_ns", "md5", "sha256", "checked", "url", "fetched")

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD
        self._archives: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a lost record costs reading the archives once more
            tree = json.loads(self._path.read_text(encoding="utf-8"))
            entries = tree.get("archives") if isinstance(tree, dict) else None
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                if isinstance(entry, dict) and all(key in entry for key in self._KEYS):
                    self._archives[name] = entry

    def entry(self, name: str) -> dict[str, Any]:
        """What is noted of an archive that was added or is known: its sums, how they were judged, where it is from."""
        return self._archives[name]

    def knows(self, name: str, path: Path) -> bool:
        """Whether this very file was verified and has not changed since."""
        entry, now = self._archives.get(name), path.stat()
        return entry is not None and (entry["path"], entry["size"], entry["mtime_ns"]) == (
            str(path.resolve()),
            now.st_size,
            now.st_mtime_ns,
        )

    def add(self, name: str, path: Path, md5: str, sha256: str, checked: str, *, url: str, fetched: bool) -> None:
        """Note a verified archive, and write the record.

        Args:
            name: Official name of the archive.
            path: Where it lies now.
            md5: Of its bytes.
            sha256: Of its bytes.
            checked: ``known`` or ``accepted``: how its sum is good.
            url: Where it came from.
            fetched: Whether this program brought it, and may remove it once it is unpacked.

        Raises:
            InputError: The record cannot be written.
        """
        state = path.stat()
        values = (str(path.resolve()), state.st_size, state.st_mtime_ns, md5, sha256, checked, url, fetched)
        entry = dict(zip(self._KEYS, values, strict=True))
        self._archives[name] = entry | {"date": datetime.now(UTC).date().isoformat()}
        tree = {"version": 1, "archives": self._archives}
        files.write_text(self._path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
