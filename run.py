"""Set-up and command line of the pack: `python run.py --help`.

Only the standard library is used here. This file stays readable for any old Python, so that it ends
with a sentence and not with a syntax error; everything else is in nodes/_cli.
"""

import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "run.py: Python 3.10 or newer is needed, this is "
        + sys.version.split()[0]
        + " ("
        + str(sys.executable)
        + "). Start it with a newer one, such as: python3.11 run.py demo\n"
    )
    sys.exit(1)


def main():
    """Load the pack as ComfyUI does, from its folder under a made-up name, and hand over."""
    import importlib
    import importlib.util
    import os

    folder = os.path.dirname(os.path.abspath(__file__))
    if not sys.dont_write_bytecode and sys.pycache_prefix is None:
        # Nothing is written beside the sources: compiled files go to our cache, or nowhere.
        home = os.environ.get("UNIFASHION_HOME") or folder
        cache = os.path.join(home, ".venv", "cache")
        if os.path.isdir(cache):
            sys.pycache_prefix = os.path.join(cache, "pycache")
        else:
            sys.dont_write_bytecode = True
    name = folder.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "__init__.py"))
    if spec is None or spec.loader is None:
        sys.exit(
            "run.py: " + folder + " is not the pack's folder. Put run.py back beside __init__.py."
        )
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    spec.loader.exec_module(pack)
    return importlib.import_module(name + ".nodes._cli").main(sys.argv[1:], folder)


if __name__ == "__main__":
    sys.exit(main())
