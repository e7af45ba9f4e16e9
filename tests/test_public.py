"""The public names: each is where its type checkers' import says, and importing the package is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

import genus


@pytest.mark.parametrize("name", genus.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(genus, name).__name__ in {name, name.removesuffix("_model")}
    assert name in dir(genus)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        genus.nothing  # noqa: B018


def test_importing_the_package_imports_no_torch() -> None:
    program = "import sys, genus, genus.cli; sys.exit('torch' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
