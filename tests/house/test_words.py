"""What must not stand in any file of the repository: registries' hosts, machine paths, unpickling."""

from __future__ import annotations

import ast
import re
import subprocess

import pytest
from source import ROOT, imports, modules

HOSTS = ["pypi" + ".org", "python" + "hosted.org", "download." + "pytorch.org", "anaconda" + ".org", "npmjs" + ".org"]
MACHINE = ["/" + "work/", "/" + "root/", "/" + "tmp/v", "/" + "opt/pypi"]


def tracked() -> list[str]:
    """Return the paths of the repository's text files."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("word", HOSTS + MACHINE)
def test_no_host_or_machine_path(word: str) -> None:
    pattern = re.compile(rb"(?<![\w.])" + re.escape(word.encode()))
    assert not [name for name in tracked() if pattern.search((ROOT / name).read_bytes())]


@pytest.mark.parametrize("module", modules())
def test_nothing_is_unpickled(module: str) -> None:
    pickles = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    assert not [line for line, name in imports(modules()[module]) if name.split(".")[0] in pickles]
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = [word for word in node.keywords if word.arg == "weights_only" and ast.unparse(word.value) == "True"]
            assert safe, f"{module}, line {node.lineno}: torch.load without weights_only=True"
