"""What a program takes: run by the enclaves' own interpreter, it runs our modules and notes all that they load.

    python3.11 -I -S -B tracing.py <TASK >RECORD                  import the modules that the task names
    python3.11 -I -S -B tracing.py TASK RECORDS MODULE [ARG]...   run a program; its record is RECORDS/<process id>

A task is a marshalled dictionary: `path` (where modules are found beside Python's own), `absent` (modules that are not
found, as in the enclave), `imports`. A record is one too:

    modules     each with the file that it came from, if any
    refused     absent modules that were asked for, each with who asked first
    failed      imports that did not succeed, each with the reason
    mapped      files in memory
    opened      files that were opened to be read
    built_in    modules that are part of the interpreter

It imports nothing that every service of ours would not import too, so that nothing is found because it was here.
"""

from __future__ import annotations

import linecache
import marshal
import posix
import runpy
import sys
from typing import Any

_ACCESS_MODE = 3  # O_RDONLY is 0


def main(*argv: str) -> None:
    """Do the task, and leave its record."""
    if argv:
        with open(argv[0], "rb") as file:
            task = marshal.load(file)
    else:
        task = marshal.load(sys.stdin.buffer)
    sys.path += task["path"]
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    opened: set[str] = set()
    # Enclaves have bytecode only, and some modules behave differently where they cannot read themselves.
    linecache.getlines = lambda filename, module_globals=None: []
    _leave_out(task["absent"], refused)
    sys.addaudithook(lambda event, args: _note(event, args, opened))
    try:
        if argv:
            _run(*argv[2:])
        else:
            _import_all(task["imports"], failed)
    finally:
        record = {"modules": _modules(), "refused": refused, "failed": failed, "mapped": _mapped()}
        record |= {"opened": sorted(opened), "built_in": list(sys.builtin_module_names)}
        if argv:
            with open(f"{argv[1]}/{posix.getpid()}", "wb") as file:
                marshal.dump(record, file)
        else:
            marshal.dump(record, sys.stdout.buffer)


def _leave_out(absent: list[str], refused: dict[str, str]) -> None:
    """From here on, absent modules are not found, nor anything in them."""
    finder = sys.meta_path[-1]
    find_spec = finder.find_spec

    def find(name: str, *args: Any) -> object:
        if any(name == each or name.startswith(f"{each}.") for each in absent):
            refused.setdefault(name, _importer())
            return None
        return find_spec(name, *args)

    finder.find_spec = find  # type: ignore[method-assign, assignment]


def _importer() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def _run(module: str, *argv: str) -> None:
    sys.argv[:] = [module, *argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _import_all(names: list[str], failed: dict[str, str]) -> None:
    for name in names:
        try:
            __import__(name)
        except Exception as error:  # of whatever kind: who reads the record knows which may fail
            parent, _, attribute = name.rpartition(".")
            if not hasattr(sys.modules.get(parent), attribute):
                failed[name] = f"{type(error).__name__}: {error}"


def _modules() -> dict[str, str]:
    own = sys.modules["__main__"]
    return {name: _file(module) for name, module in list(sys.modules.items()) if module is not own}


def _file(module: object) -> str:
    """Where it came from; not its specification, which a package that wraps its modules does not pass on."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return "" if origin == "frozen" else getattr(module, "__file__", None) or ""


def _mapped() -> list[str]:
    with open("/proc/self/maps") as file:
        fields = [line.split(maxsplit=5) for line in file]
    return sorted({each[5].strip() for each in fields if len(each) == 6 and each[5].startswith("/")})


def _note(event: str, args: tuple[object, ...], opened: set[str]) -> None:
    if event == "open" and isinstance(args[0], str) and isinstance(args[2], int) and not args[2] & _ACCESS_MODE:
        opened.add(args[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
