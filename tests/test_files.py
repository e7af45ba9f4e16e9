"""Files and folders change in one step; links, pipes and this process's own output are written to, not replaced."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from genus.errors import GenusError
from genus.files import CHECKSUMS, beside, checksum, expecting, reason, write_tensors, write_text
from ordinary import ordinary_user


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, files: dict[str, str], replaced: tuple[str, ...] = ()) -> None:
    with beside(folder, [Path(name) for name in replaced]) as work:
        for name, text in files.items():
            (work / name).parent.mkdir(exist_ok=True)
            (work / name).write_text(text)


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "answers")
    for text in ("first", "second"):  # at first the link points to nothing
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert content(tmp_path / "disk") == {"answers": text}


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "all of it")
    reader.join(60)
    assert read == ["all of it"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_what_goes_to_the_output_itself_stands_in_order_with_what_is_printed(tmp_path: Path) -> None:
    code = "print('before'); from pathlib import Path; from genus.files import write_text\n"
    code += "write_text(Path('/dev/stdout'), 'between\\n'); print('after')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nbetween\nafter\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_device_is_one_line() -> None:
    with pytest.raises(GenusError, match=r"^/dev/full: cannot be written: No space left on device$"):
        write_text(Path("/dev/full"), "text")


def test_a_name_in_other_bytes_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match=r"names: cannot hold a name that is not UTF-8 \('a file: te\\udcffxt'\)"):
        write_text(tmp_path / "names", "a file: te\udcffxt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_folder_takes_the_place_of_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: bool
) -> None:
    if not exchanged:
        monkeypatch.setattr("genus.files._exchange", lambda *_: False)
    folder = tmp_path / "model"
    write(folder, {"config": "1", "weights": "1", "inner/weights": "1"})
    (folder / "notes").mkdir()
    (folder / "notes" / "mine").write_text("mine")
    folder.chmod(0o750)
    write(folder, {"config": "2", "shard": "2"}, ("weights", "inner/weights", "config"))
    assert content(folder) == {"config": "2", "shard": "2", "notes/mine": "mine"}
    assert not (folder / "inner").exists()
    assert folder.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_working_directory_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", {"a": "1"})
    monkeypatch.chdir(tmp_path / "out")
    number = Path().stat().st_ino
    write(Path(), {"a": "2"})
    assert Path().stat().st_ino == number
    assert Path("a").read_text() == "2"


def test_a_link_to_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "model")
    for text in ("1", "2"):
        write(tmp_path / "link", {"a": text})
        assert (tmp_path / "link").is_symlink()
        assert content(tmp_path / "disk") == {"model/a": text}


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(GenusError, match="file: cannot be written: Not a directory"):
        write(tmp_path / "file", {"a": "1"})
    assert content(tmp_path) == {"file": "precious"}


def test_an_error_within_a_temporary_folder_names_the_folder_that_it_is_for(tmp_path: Path) -> None:
    """A tokenizer and its files are written into the temporary folder of a model."""
    full = OSError(errno.ENOSPC, "No space left on device")
    for name in ("", "generator"):
        with pytest.raises(GenusError) as caught, beside(tmp_path / "model") as outer, beside(outer / name):
            raise full
        assert str(caught.value) == f"{tmp_path / 'model' / name}: cannot be written: No space left on device"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (
            OSError("Error while serializing: I/O error: No space left on device (os error 28)"),
            os.strerror(errno.ENOSPC),
        ),
        (ValueError('Os { code: 28, kind: StorageFull, message: "..." }'), os.strerror(errno.ENOSPC)),
        (ValueError("one line\nand another"), "one line"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (EOFError(), "EOFError"),
    ],
)
def test_reasons_are_a_few_words(error: Exception, told: str) -> None:
    """Of the libraries too, whose errors hold the system's number in their text."""
    assert reason(error) == told


def test_a_folder_that_may_not_be_read_stays_where_another_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "model" / "notes").mkdir(parents=True)
    (tmp_path / "model" / "notes" / "a").write_text("mine")
    (tmp_path / "model" / "notes").chmod(0)
    with ordinary_user():
        write(tmp_path / "model", {"config.json": "{}"})
    (tmp_path / "model" / "notes").chmod(0o700)
    assert content(tmp_path / "model") == {"config.json": "{}", "notes/a": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"numbers": 1}', "\xff", "[" * 100_000])
def test_damage_is_one_line_that_names_file_and_remedy(tmp_path: Path, text: str) -> None:
    file = tmp_path / "some.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(GenusError) as caught, expecting(file, "remove it"):
        list(json.loads(file.read_text(encoding="utf-8"))["numbers"])
    assert str(caught.value).startswith(f"{file}: is damaged (")
    assert str(caught.value).endswith("); remove it")
    assert "\n" not in str(caught.value)


def test_the_same_tensors_give_the_same_file(tmp_path: Path) -> None:
    tensors = {name: torch.arange(6.0).view(2, 3) + number for number, name in enumerate(("b", "ä", 'a"', "c"))}
    for number in range(8):
        write_tensors(tmp_path / str(number), tensors)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert load_file(tmp_path / "0").keys() == tensors.keys()
    with safe_open(tmp_path / "0", "pt") as file:
        found = json.loads(file.metadata()[CHECKSUMS])
    assert found == {name: checksum(tensor) for name, tensor in tensors.items()}
