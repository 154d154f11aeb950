"""``python -m tests.fuzz [--seconds N] [TARGET…]``: libFuzzer over each target in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all, unless named")
    parser.add_argument("--seconds", type=int, default=30, help="for all targets together")
    parser.add_argument("--keep", type=Path, help="a folder for what is found; else one that is left where it fails")
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    return fuzz(given.one) if given.one else each(given)


def each(given: argparse.Namespace) -> int:
    from . import seeds
    from .targets import TARGETS

    names = given.targets or list(TARGETS)
    share = max(1, given.seconds // len(names))
    failed = []
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        corpus, found = folder / "corpus", given.keep or folder
        corpus.mkdir()
        found.mkdir(parents=True, exist_ok=True)
        for at, seed in enumerate(seeds.of(name)):
            (corpus / str(at)).write_bytes(seed)
        words = folder / "words"
        words.write_text("".join(f'"{word}"\n'.replace("\\", "\\\\") for word in seeds.WORDS), "utf-8")
        options = [f"-max_total_time={share}", f"-dict={words}", f"-artifact_prefix={found}/{name}-", "-max_len=4096"]
        run = subprocess.run(  # its output goes to ours
            [sys.executable, "-m", "tests.fuzz", "--one", name, *options, "-print_final_stats=1", str(corpus)],
            check=False,
        )
        print(f"fuzz {name}: {'no finding' if run.returncode == 0 else 'FAILED'} in {share} s", flush=True)
        if run.returncode:
            failed.append(name)
            print(f"put the input from {found} into tests/fuzz/findings/, named {name}-WHAT", flush=True)
    return 1 if failed else 0


def fuzz(arguments: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["stackauth_middleware"]):
        import stackauth_middleware  # noqa: F401 - imported to be instrumented

        from .targets import TARGETS
    name, *options = arguments
    atheris.Setup([sys.argv[0], *options], atheris.instrument_func(TARGETS[name]))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
