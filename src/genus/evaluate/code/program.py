"""The process of one program: a script of its own, without any import of genus, that `jail.py` starts under limits.

Standard input is a file of JSON, in which a program and a secret word stand. The word is written to where standard
output led if, and only if, the last line of the program was reached; of an exception, its name.
"""

from __future__ import annotations

import json
import os
import sys
import types


def main() -> None:
    """Run the program; never return."""
    os.lseek(0, 0, os.SEEK_SET)
    order = json.loads(sys.stdin.buffer.read())
    report, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    write, leave, word = os.write, os._exit, str(order["word"]).encode()  # the program may replace those of `os`
    module = types.ModuleType("program")
    sys.modules["program"] = module  # data classes look for their module
    try:
        exec(compile(order["program"], "program.py", "exec"), module.__dict__)
    except BaseException as error:
        write(report, f"-{type.__dict__['__name__'].__get__(type(error))}\n".encode()[:100])
        leave(1)
    write(report, word + b"\n")
    leave(0)


if __name__ == "__main__":
    main()
