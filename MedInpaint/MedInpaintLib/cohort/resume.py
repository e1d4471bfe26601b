"""What is done already: results are complete and were made from the same files with the same settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .. import __version__
from ..errors import InputError
from ..models.folder import Model
from ..settings import Settings
from .scans import Results, Scan, sidecar

GZIP_TRAILER = 8  # bytes: the checksum and the length of the content


def fingerprint(scan: Scan, settings: Settings, model: Model) -> str:
    """A hash of everything that determines the results but the device, whose last digits do not count.

    No time of a file is in it, so that a wrong clock does no harm. Raises InputError if a file cannot be read.
    """
    chosen = settings.to_dict()
    del chosen["device"]
    chosen["model"] = model.card["sha256"]
    paths = scan.image, scan.mask, *(further.image for further in scan.also)
    files = [(path.name, _content(path)) for path in paths if path]
    missing = [scan.missing] if scan.missing else []  # the report says so
    text = json.dumps([__version__, chosen, files, scan.sources, *missing], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_complete(results: Results, mark: str, uncertainty: bool) -> bool:
    """Whether all files are there and have this fingerprint, also those of further scans."""
    return all(_is_complete(part, mark, uncertainty) for part in results.together)


def _is_complete(results: Results, mark: str, uncertainty: bool) -> bool:
    wanted = [results.image, results.mask, sidecar(results.mask), results.section, results.thumbnail]
    wanted += [results.uncertainty, sidecar(results.uncertainty)] if uncertainty else []
    about = read_sidecar(results)
    return bool(about) and about["MedInpaint"]["Fingerprint"] == mark and all(path.is_file() for path in wanted)


def read_sidecar(results: Results) -> dict:
    """The JSON of the filled scan; empty if there is none or if it was not written by this program."""
    try:
        about = json.loads(sidecar(results.image).read_text(encoding="utf-8"))
        return about if {"Fingerprint", "Report"} <= set(about["MedInpaint"]) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _content(path: Path) -> list:
    """The size of a file and a checksum of its content. A gzip file has one at its end, so that little is read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if path.suffix != ".gz":
                return [size, hashlib.sha256(file.read()).hexdigest()]
            file.seek(max(size - GZIP_TRAILER, 0))
            return [size, file.read().hex()]
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read: check the file and its permissions.") from error
