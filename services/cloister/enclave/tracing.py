"""What a program takes: run by the enclaves' own interpreter, it runs our modules and notes all that they load.

    python3.11 -I -S -B tracing.py <TASK >RECORD                  import the modules that the task names
    python3.11 -I -S -B tracing.py TASK RECORDS MODULE [ARG]...   run a program; its record is RECORDS/<process id>

A task is a marshalled dictionary: `path` (where modules are found beside Python's own), `absent` (modules that cannot be
imported, as in the enclave), `imports`. A record is one too: `modules` (each with the file that it came from, if any),
`refused` (absent modules that were asked for, each with who asked first), `failed` (imports that did not succeed, each
with the reason), `mapped` (files in memory), `opened` (files that were opened to be read).

It imports nothing that every service of ours would not import too, so that nothing is found because it was here.
"""

import marshal
import posix
import sys

_ACCESS_MODE = 3  # O_RDONLY is 0


def _leave_out(absent, refused):
    """From here on, absent modules are not found, nor anything in them."""
    path_finder = sys.meta_path[-1]

    class Finder(path_finder):
        """Finds what is present."""

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if any(name == each or name.startswith(f"{each}.") for each in absent):
                refused.setdefault(name, _importer())
                return None
            return super().find_spec(name, path, target)

    sys.meta_path[-1] = Finder


def _importer():
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("importlib") and "importlib" not in frame.f_code.co_filename:
            return name
        frame = frame.f_back
    return ""


def main(*argv):
    """Do the task, and leave its record."""
    if argv:
        task_file, folder, *command = argv
        with open(task_file, "rb") as file:
            task = marshal.load(file)
    else:
        task = marshal.load(sys.stdin.buffer)
    sys.path += task["path"]
    refused, failed, opened = {}, {}, set()
    _hide_sources()
    _leave_out(task["absent"], refused)
    sys.addaudithook(lambda event, args: _note(event, args, opened))
    try:
        if argv:
            _run(*command)
        else:
            _import_all(task["imports"], failed)
    finally:
        record = {"modules": _modules(), "refused": refused, "failed": failed}
        record |= {"mapped": _mapped(), "opened": sorted(opened)}
        if argv:
            with open(f"{folder}/{posix.getpid()}", "wb") as file:
                marshal.dump(record, file)
        else:
            marshal.dump(record, sys.stdout.buffer)


def _hide_sources():
    """Enclaves have bytecode only, and some modules behave differently where they cannot read themselves."""
    import linecache

    linecache.getlines = lambda filename, module_globals=None: []


def _run(module, *argv):
    import runpy

    sys.argv[:] = [module, *argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _import_all(names, failed):
    for name in names:
        try:
            __import__(name)
        except Exception as error:  # of whatever kind: who reads the record knows which may fail
            parent, _, attribute = name.rpartition(".")
            if not hasattr(sys.modules.get(parent), attribute):
                failed[name] = f"{type(error).__name__}: {error}"


def _modules():
    own = sys.modules["__main__"]
    return {name: _file(module) for name, module in list(sys.modules.items()) if module is not own}


def _file(module):
    """Where it came from; not its specification, which a package that wraps its modules does not pass on."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return "" if origin == "frozen" else getattr(module, "__file__", None) or ""


def _mapped():
    with open("/proc/self/maps") as file:
        fields = [line.split(maxsplit=5) for line in file]
    return sorted({each[5].strip() for each in fields if len(each) == 6 and each[5].startswith("/")})


def _note(event, args, opened):
    if event == "open" and isinstance(args[0], str) and not (args[2] or 0) & _ACCESS_MODE:
        opened.add(args[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
