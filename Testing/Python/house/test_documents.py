"""README.md and Resources/Documentation: their links, commands, options, file map and model table are true."""

import json
import re
import shlex
from argparse import PARSER
from dataclasses import fields
from pathlib import Path

import pytest
from MedInpaintLib.command import main
from MedInpaintLib.errors import InputError
from MedInpaintLib.models.folder import WEIGHTS
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "MedInpaint" / "MedInpaintLib"
FIGURES = ROOT / "Resources" / "Figures"
README = ROOT / "README.md"
DOCUMENTATION = ROOT / "Resources" / "Documentation"
DOCUMENTS = [README, *sorted(DOCUMENTATION.glob("*.md"))]
EXPECTED = {"cohorts", "contrasts", "developers", "evaluation", "files", "method", "models", "performance", "slicer"}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
OTHER_PROGRAMS = {"--output-on-failure"}  # options of ctest and cmake
IN_EACH_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)


def text_of(document):
    return document.read_text(encoding="utf-8")


def prose(document):
    """The text without its code blocks."""
    return FENCE.sub("", text_of(document))


def code_spans(document):
    return re.findall(r"`([^`\n]+)`", prose(document))


def links(document):
    """The targets of links and pictures that lie in this repository."""
    found = re.findall(r"\]\(\s*([^)\s]+)\s*\)", prose(document)) + re.findall(r'src="([^"]+)"', prose(document))
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors(document):
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(document):
    """The command lines of `medinpaint` in the code blocks, as lists of words."""
    for language, block in FENCE.findall(text_of(document)):
        if language not in ("", "bash"):
            continue
        for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
            if line.split()[:1] == ["medinpaint"]:
                yield shlex.split(line, comments=True)[1:]


def parser_of(name):
    """The parser of one command."""
    (group,) = main._parser([name])._subparsers._group_actions
    return group.choices[name]


def options_of(parser):
    """Its options, and those of its steps, without --help: {"--model": action}."""
    found = {}
    for action in parser._actions:
        if action.dest == "help":
            continue
        if action.nargs == PARSER:  # the steps of `train`
            for step in action.choices.values():
                found |= options_of(step)
        found |= dict.fromkeys(action.option_strings, action)
    return found


def option_table():
    """The rows of the README's table of options: ({"--model"}, "NAME_OR_FOLDER", default)."""
    for line in text_of(README).splitlines():
        if line.startswith("| `--"):
            name, _, default = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            option, _, values = name.strip("`").replace("\\|", "|").partition(" ")
            yield option, values, default.strip("`")


def test_the_documents_are_those_that_the_readme_names():
    assert {path.stem for path in DOCUMENTS[1:]} == EXPECTED
    assert {Path(target.partition("#")[0]) for target in links(README) if target.partition("#")[0].endswith(".md")} >= {
        path.relative_to(ROOT) for path in DOCUMENTS[1:]
    }


def test_the_readme_has_at_most_200_lines():
    assert len(text_of(README).splitlines()) <= 200


@IN_EACH_DOCUMENT
def test_every_link_and_picture_exists(document):
    for target in links(document):
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@IN_EACH_DOCUMENT
def test_every_path_in_the_text_exists(document):
    for span in code_spans(document):
        if re.match(r"(MedInpaint|Resources|Testing|\.ci)/", span):
            assert list(ROOT.glob(span.rstrip("/"))), span


def test_no_figure_is_unused():
    shown = {name for document in DOCUMENTS for name in map(lambda target: Path(target).name, links(document))}
    shown |= set(re.findall(r"\(Figures/(.+?)\)", text_of(ROOT / "Resources" / "Experiment.md")))
    shown |= {Path(url).name for url in re.findall(r"https://\S+?\.png", text_of(ROOT / "CMakeLists.txt"))}
    assert {path.name for path in FIGURES.iterdir()} <= shown


@IN_EACH_DOCUMENT
def test_every_command_in_a_code_block_parses(document):
    for words in commands(document):
        try:
            main._parser(words).parse_args(words)
        except InputError as error:
            pytest.fail(f"medinpaint {shlex.join(words)}: {error}")


def test_there_are_commands_to_check():
    named = {words[0] for document in DOCUMENTS for words in commands(document)}
    assert named == {"run", "bids", "demo", "train", "evaluate", "downstream", "benchmark"}


@IN_EACH_DOCUMENT
def test_every_command_and_option_in_the_text_exists(document):
    (group,) = main._parser([])._subparsers._group_actions
    names = set(group.choices)
    known = {option for name in names for option in options_of(parser_of(name))} | {"--help"} | OTHER_PROGRAMS
    for span in code_spans(document):
        words = span.split()
        if words[0] == "medinpaint" and len(words) > 1:
            assert words[1] in names | {"--help"}, span
        assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} <= known, span


def test_the_option_table_is_that_of_the_parser():
    actions = options_of(parser_of("run"))
    rows = {option: (values, default) for option, values, default in option_table()}
    assert set(rows) == set(actions)
    for option, (values, _) in rows.items():
        choices, metavar = actions[option].choices, actions[option].metavar or ""
        expected = metavar if isinstance(metavar, str) else " ".join(metavar)
        assert values == ("|".join(choices) if choices else expected), option


def test_every_setting_is_in_the_option_table_with_its_default():
    actions = options_of(parser_of("run"))
    rows = [(actions[option].dest, option, default) for option, _, default in option_table()]
    for field in fields(Settings):
        stated = {default for dest, option, default in rows if dest == field.name and not option.startswith("--no-")}
        assert field.name in {dest for dest, _, _ in rows}
        if isinstance(field.default, bool):
            assert stated <= {""}
        elif field.default is not None:
            assert stated == {f"{field.default:g}" if isinstance(field.default, float) else str(field.default)}
    assert ("progress", "--progress", actions["--progress"].default) in rows


def test_the_defaults_of_each_kind_of_model_are_those_in_the_option_table():
    defaults = {option: default for option, _, default in option_table()}
    linear, vae, gan = (
        re.search(r"^    prior_weight = (\S+)", text_of(PACKAGE / "models" / f"{kind}.py"), re.MULTILINE).group(1)
        for kind in ("linear", "vae", "gan")
    )  # read, as an import would load torch
    assert linear == vae
    assert defaults["--prior-weight"] == f"{gan} for a GAN, else {vae}"


def test_the_file_map_names_exactly_the_files_of_the_package():
    (block,) = re.findall(r"```\nMedInpaintLib/\n(.*?)```", text_of(DOCUMENTATION / "developers.md"), re.DOTALL)
    named, folders = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, meaning = line.strip().partition(" ")
        assert meaning.strip(), line
        folders[depth - 1 :] = [name] if name.endswith("/") else []
        named.append("".join(folders) + ("" if name.endswith("/") else name))
    rooms = {f"{path.parent.relative_to(PACKAGE).as_posix()}/" for path in PACKAGE.glob("*/**/__init__.py")}
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert sorted(named) == sorted(rooms | files | {"__init__.py"})


def test_the_table_of_models_says_what_their_cards_say():
    text = text_of(DOCUMENTATION / "models.md")
    for model in shipped_models():
        (row,) = re.findall(rf"^\| `{model.name}` (\|.+\|)$", text, re.MULTILINE)
        kind, kernel, _, size, trained, quality = (cell.strip() for cell in row.split("|")[1:-1])
        card = model.card
        if card["kernel"] is None:
            assert (kind, kernel, trained) == ("linear", "", "not trained")
        else:
            assert (kind, kernel) == (card["kind"].upper(), str(card["kernel"]))
            assert trained == f"{card['epochs']} epochs, {card['training_minutes']:.0f} min"
        assert size == f"{(model.folder / WEIGHTS).stat().st_size / 1e6:.1f} MB"
        assert quality == ", ".join(f"{value:.1f}" for value in card["validation"]["psnr_by_radius"].values())


def test_the_entry_for_the_extensions_catalog_is_in_the_developers_document_alone():
    entries = [
        (document.stem, json.loads(block))
        for document in DOCUMENTS
        for language, block in FENCE.findall(text_of(document))
        if language == "json"
    ]
    assert [(stem, "scm_url" in entry) for stem, entry in entries] == [("developers", True)]
