"""The house: each folder imports only from those below it, and nothing lies beside them that has no folder."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# from the top
ROOMS = ("cli", "runs", "plots", "measure", "training", "estimators", "evidence", "pairs", "graphs", "data")
NAMING = ("cli", "runs", "plots")  # these make models and guides by their names
FLAT = {"__init__", "__main__", "programs", "networks", "errors"}
HELD = {"models", "guides"}  # written with the flat files alone; the command line names them
LONGEST_FILE, LONGEST_FUNCTION = 300, 60  # lines; those of a function without its docstring


def files() -> Iterator[Path]:
    for folder in ("ppl_vae", "models", "guides"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported(file: Path) -> set[str]:
    """The parts of ``ppl_vae`` that a file imports: a room, a flat file, models or guides."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {
            name.split(".")[1] if "." in name else "__init__" for name in names if name.split(".")[0] == "ppl_vae"
        }
    return found


def room_of(file: Path) -> str:
    inside = file.relative_to(ROOT).parts
    return inside[0] if inside[0] in HELD else inside[1].removesuffix(".py")


def floors() -> dict[str, int]:
    """The height of each folder above the files that import nothing."""
    below = {}
    for file in files():
        if room_of(file) not in ("__init__", "__main__"):
            below.setdefault(room_of(file), set()).update(imported(file) - {room_of(file)})
    height: dict[str, int] = {}
    while len(height) < len(below):
        ready = {room for room, under in below.items() if room not in height and under <= set(height)}
        assert ready, f"these import each other: {set(below) - set(height)}"
        height |= {room: 1 + max((height[under] for under in below[room]), default=0) for room in ready}
    return height


def test_no_import_goes_upwards():
    upwards = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files()
        if room_of(file) in ROOMS
        for name in imported(file)
        if name in ROOMS[: ROOMS.index(room_of(file))] or (name in HELD and room_of(file) not in NAMING)
    ]
    assert not upwards


def test_models_and_guides_are_written_with_the_flat_files_alone():
    for file in files():
        if room_of(file) in HELD | {"programs", "networks", "errors"}:
            assert imported(file) <= {"programs", "networks", "errors", room_of(file)}, file


def test_there_are_ten_floors_at_most():
    assert max(floors().values()) <= 10


def test_nothing_is_flat_but_what_models_and_guides_are_written_with():
    assert {file.stem for file in (ROOT / "ppl_vae").glob("*.py")} == FLAT
    assert {folder.parent.name for folder in (ROOT / "ppl_vae").glob("*/__init__.py")} == set(ROOMS)


def test_the_tests_lie_in_the_same_folders():
    rooms = {folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir() and folder.name[0] not in "._"}
    assert rooms - {"models", "examples", "__pycache__"} <= set(ROOMS)


def test_a_file_and_a_function_are_short_enough_to_read():
    for file in files():
        text = file.read_text()
        assert text.count("\n") <= LONGEST_FILE, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                assert node.end_lineno - first.lineno < LONGEST_FUNCTION, f"{node.name} of {file}"


def test_programs_are_traced_in_one_file():
    tracing = [file.name for file in files() if "poutine.trace(" in file.read_text()]
    assert len(tracing) <= 2, tracing
