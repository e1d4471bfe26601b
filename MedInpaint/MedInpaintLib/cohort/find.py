"""Find the scans of a BIDS dataset and the mask of each."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError
from .scans import EXTENSIONS, IN_SCAN_SPACE, Scan, entities_of

NOT_COMPARED = {"space", "label", "desc", "res", "den", "hemi", "seg", "mod"}  # entities a mask may have of its own
GENERATOR = "MedInpaint"


@dataclass(frozen=True)
class Request:
    """Which scans of which dataset are to be filled.

    Attributes:
        dataset: the BIDS dataset.
        output: the folder of the derivatives.
        participants, sessions: labels with or without "sub-" and "ses-"; empty for all.
        filters: {"scan": {entity: value}, "mask": ...}; a value may be a list, or None for "has no such entity". What
            is in `also` may have a filter, too.
        derivatives: {name: folder} of the datasets that hold the masks. If empty, masks are searched in the dataset
            itself and in its folder "derivatives".
        suffix: the contrast to fill.
        labels: values of the entity "label" that mark a mask of lesions.
        one_mask: a participant has one mask for all sessions.
        also: further contrasts of a session, filled together with the scan.
    """

    dataset: Path
    output: Path
    participants: Sequence[str] = ()
    sessions: Sequence[str] = ()
    filters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    derivatives: Mapping[str, Path] = field(default_factory=dict)
    suffix: str = "T1w"
    labels: Sequence[str] = ("lesion", "L", "tumor")
    one_mask: bool = False
    also: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len({self.suffix, *self.also}) <= len(self.also):
            raise InputError(f"--also names a contrast twice, or {self.suffix}, which leads: name each one once.")


@dataclass(frozen=True)
class _File:
    path: Path
    uri: str
    place: str
    entities: dict[str, str]
    suffix: str

    @property
    def unit(self) -> tuple[str, str | None]:
        return self.entities["sub"], self.entities.get("ses")


def read_filters(path: Path, also: Sequence[str] = ()) -> dict[str, dict[str, object]]:
    """The content of a --bids-filter-file, for these further contrasts. Raises InputError if it is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path.name}' cannot be read as JSON: check the path and the file.") from error
    keys = ["scan", "mask", *also]
    if not isinstance(content, dict) or not content.keys() <= set(keys):
        listed = " and ".join((", ".join(keys[:-1]), keys[-1]))
        raise InputError(f"'{path.name}' may have the keys {listed} alone: see the documentation of cohorts.")
    if not all(isinstance(value, dict) for value in content.values()):
        raise InputError(f"'{path.name}' must give entities and their values for each of its keys.")
    known = _entity_names()
    return {
        which: {_short_name(key, known, path): value for key, value in wanted.items()}
        for which, wanted in content.items()
    }


def find_scans(request: Request) -> list[Scan]:
    """All scans that were asked for, in the order of their names; each with its mask or with a problem.

    A session without a scan is in the list, too. Raises InputError if there is no dataset or nothing to fill.
    """
    files = _index(request.dataset, "raw")
    raw = [file for file in files if "derivatives" not in PurePosixPath(file.place).parts]
    if not raw:
        raise InputError(
            f"'{request.dataset.name}' has no images in folders such as sub-01/anat: give the folder of a BIDS dataset."
        )
    participants = _wanted(request.participants, "sub-", {file.unit[0] for file in raw}, "participant")
    sessions = _wanted(request.sessions, "ses-", {file.unit[1] for file in raw} - {None}, "session")

    def chosen(file: _File) -> bool:
        return file.unit[0] in participants and (not request.sessions or file.unit[1] in sessions)

    scans = [f for f in raw if chosen(f) and f.suffix == request.suffix and _passes(f, request.filters.get("scan", {}))]
    masks = defaultdict(list)  # by participant: with 10,000 of them, each scan must not look at all masks
    for mask in _find_masks(request, files):
        masks[mask.entities["sub"]].append(mask)
    further = defaultdict(list)
    for file in raw:
        if file.suffix in request.also and _passes(file, request.filters.get(file.suffix, {})):
            further[file.unit].append(file)
    leaders = Counter(scan.unit for scan in scans)
    found = [
        _with_further(_with_mask(scan, masks[scan.entities["sub"]], request), further[scan.unit],
                      leaders[scan.unit], request.also)
        for scan in scans
    ]  # fmt: skip
    counts = Counter(scan.name for scan in found)
    found = [s if counts[s.name] == 1 else _broken(s, "Several scans have names that differ in desc alone: "
             "choose one with --bids-filter-file.") for s in found]  # fmt: skip
    unique = {scan.name: scan for scan in found}
    empty = {file.unit for file in raw if chosen(file)} - {scan.unit for scan in scans}
    for participant, session in empty:
        stem = f"sub-{participant}" + (f"_ses-{session}" if session else "")
        place = stem.replace("_", "/", 1) + "/anat"
        problem = f"There is no {request.suffix} scan: check the dataset, or leave this one out."
        unique[stem] = Scan(participant, session, place, stem, request.suffix, problem=problem)
    return sorted(unique.values(), key=lambda scan: scan.name)


def dataset_folders(request: Request) -> dict[str, Path]:
    """The names that BIDS URIs of the results use, and the folders they mean."""
    if request.derivatives:
        return {"raw": request.dataset, **request.derivatives}
    inside = request.dataset / "derivatives"
    folders = sorted(path for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []
    return {"raw": request.dataset} | {f.name: f for f in folders if f.resolve() != request.output.resolve()}


def _find_masks(request: Request, files: Iterable[_File]) -> list[_File]:
    """The masks of all participants: *_label-lesion_mask in derivatives, *_label-lesion_roi in the dataset."""
    if request.derivatives:
        files = [file for name, folder in request.derivatives.items() for file in _index(folder, name)]
    made_here: dict[Path, bool] = {}

    def is_mask(file: _File) -> bool:
        if file.suffix not in ("mask", "roi") or file.entities.get("label") not in request.labels:
            return False
        if not _passes(file, request.filters.get("mask", {})):
            return False
        root = file.path.parents[len(PurePosixPath(file.place).parts) - _depth(file)]
        if root not in made_here:
            made_here[root] = _is_ours(root)
        return not made_here[root]

    return [file for file in files if is_mask(file)]


def _depth(file: _File) -> int:
    """The number of folders above "sub-..." in the file's place."""
    parts = PurePosixPath(file.place).parts
    return next((n for n, part in enumerate(parts) if part.startswith("sub-")), 0)


def _is_ours(folder: Path) -> bool:
    """Whether an earlier run wrote this dataset: its masks say what was filled, not what is to be filled."""
    try:
        about = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
        return any(entry.get("Name") == GENERATOR for entry in about.get("GeneratedBy", []))
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _with_mask(scan: _File, masks: list[_File], request: Request) -> Scan:
    """The scan with the one of its participant's masks that belongs to it, or with a problem."""
    plain = _plain(scan)
    own = [mask for mask in masks if _belongs(mask, scan, request.one_mask)]
    spaces = {*IN_SCAN_SPACE, scan.suffix, scan.entities.get("space", "orig")}
    fitting = [mask for mask in own if mask.entities.get("space", "orig") in spaces]
    if not own:
        return _broken(plain, f"There is no mask with label {' or '.join(request.labels)}: add one, or leave this out.")
    if not fitting:
        listed = ", ".join(sorted({mask.entities["space"] for mask in own}))
        return _broken(plain, f"The mask lies in the space {listed}: give one in the space of the scan (space-orig).")
    if len(fitting) > 1:
        listed = ", ".join(sorted(mask.path.name for mask in fitting))
        return _broken(plain, f"There are {len(fitting)} masks ({listed}): choose one with --bids-filter-file.")
    sources = scan.uri, fitting[0].uri
    return replace(plain, image=scan.path, mask=fitting[0].path, sources=sources)


def _with_further(scan: Scan, files: list[_File], leaders: int, also: Sequence[str]) -> Scan:
    """The scan with the further contrasts of its session, or with a problem if it is not clear which they are."""
    if scan.problem or not also:
        return scan
    if files and leaders > 1:
        return _broken(scan, f"The session has {leaders} {scan.suffix} scans, and it is not clear which of them leads "
                       "the other contrasts: choose one with --bids-filter-file.")  # fmt: skip
    further, missing = [], []
    for contrast in also:
        fitting = [file for file in files if file.suffix == contrast]
        if len(fitting) > 1:
            listed = ", ".join(sorted(file.path.name for file in fitting))
            return _broken(scan, f"There are {len(fitting)} {contrast} scans ({listed}): choose one with "
                           "--bids-filter-file.")  # fmt: skip
        further += fitting
        missing += [] if fitting else [contrast]
    image, mask = scan.sources
    uris = [image, *(file.uri for file in further)]

    def sources(own: str) -> tuple[str, ...]:
        return own, mask, *(uri for uri in uris if uri != own)

    others = tuple(replace(_plain(file), image=file.path, sources=sources(file.uri)) for file in further)
    return replace(scan, also=others, missing=tuple(missing), sources=sources(image))


def _plain(scan: _File) -> Scan:
    """The scan without its mask."""
    participant, session = scan.unit
    stem = scan.path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(f"_{scan.suffix}")
    stem = "_".join(part for part in stem.split("_") if not part.startswith("desc-"))
    return Scan(participant, session, scan.place, stem, scan.suffix)


def _belongs(mask: _File, scan: _File, one_mask: bool) -> bool:
    """Whether the entities of the mask agree with those of the scan, which is of the same participant."""
    if one_mask:
        return True
    stated = {key: value for key, value in mask.entities.items() if key not in NOT_COMPARED}
    return mask.unit == scan.unit and all(_equal(value, scan.entities.get(key)) for key, value in stated.items())


def _broken(scan: Scan, problem: str) -> Scan:
    return Scan(scan.participant, scan.session, scan.place, scan.stem, scan.suffix, problem=problem)


def _index(folder: Path, name: str) -> list[_File]:
    """The images of a dataset. Raises InputError if it is no folder."""
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder: check the path.")
    import ancpbids

    files = []
    artifacts: Iterable[Any] = ancpbids.load_dataset(str(folder)).query(scope="all")
    for artifact in artifacts:
        place = PurePosixPath(artifact.get_relative_path())
        entities = entities_of(place.name)
        if not place.name.endswith(EXTENSIONS) or "sub" not in entities:
            continue
        inside, dataset = place, name
        if place.parts[0] == "derivatives" and len(place.parts) > 2:
            inside, dataset = PurePosixPath(*place.parts[2:]), place.parts[1]
        suffix = place.name.partition(".")[0].split("_")[-1]
        files.append(_File(folder / place, f"bids:{dataset}:{inside}", str(place.parent), entities, suffix))
    return files


def _wanted(labels: Sequence[str], prefix: str, there: set, what: str) -> set:
    """The labels that were asked for, or all. Raises InputError if one is not there."""
    asked = {label.removeprefix(prefix) for label in labels}
    missing = sorted(asked - there)
    if missing:
        raise InputError(f"The dataset has no {what} {', '.join(missing)}: check the labels.")
    return asked or there


def _passes(file: _File, wanted: Mapping[str, object]) -> bool:
    for key, value in wanted.items():
        choices = value if isinstance(value, list) else [value]
        if not any(_equal(file.entities.get(key), choice) for choice in choices):
            return False
    return True


def _equal(a: object, b: object) -> bool:
    """Whether two values of an entity are the same; run-01 is run-1."""
    if a is None or b is None:
        return a is b
    return str(a).lstrip("0") == str(b).lstrip("0")


def _entity_names() -> dict[str, str]:
    """The short name of each entity, by its long and its short name."""
    from ancpbids import load_schema

    schema = load_schema(".")
    return {name: e.value["name"] for e in schema.EntityEnum for name in (e.name, e.value["name"])}


def _short_name(key: str, known: Mapping[str, str], path: Path) -> str:
    if key not in known:
        raise InputError(f"'{path.name}' names the entity '{key}', which BIDS does not have: check its spelling.")
    return known[key]
