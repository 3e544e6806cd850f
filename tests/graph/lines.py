"""Where a marked line of a test file is, for tests of messages that name lines.

A line is marked with a comment, `# <- first`, and `at(__file__, "first")` is what a message calls it.
"""

from pathlib import Path


def at(file: str, mark: str) -> str:
    path = Path(file)
    found = [i for i, line in enumerate(path.read_text().splitlines(), 1) if line.rstrip().endswith(f"# <- {mark}")]
    assert len(found) == 1, f"{len(found)} lines are marked {mark}"
    return f"{path.name}:{found[0]}"
