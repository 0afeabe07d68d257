"""Lines from several processes: each whole, or not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gym_ext_reward_log import jsonl
from gym_ext_reward_log.jsonl import LineFile

# without the package, which takes a second to import
LOADED = f"import runpy; LineFile = runpy.run_path({jsonl.__file__!r})['LineFile']\n"
SOURCE = f"import json, resource, sys\nfrom pathlib import Path\n{LOADED}"


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SOURCE + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_line_is_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("old\n")
    file = LineFile(path)
    file.check()
    assert path.read_text() == "old\n"
    file.append("Zürich 東京\n".encode())
    file.append(b"new\n")
    assert path.read_text("utf-8") == "old\nZürich 東京\nnew\n"


def test_a_line_that_someone_left_half_written_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"reward":1}\n{"rew')
    LineFile(path).append(b"whole\n")
    assert path.read_text() == '{"reward":1}\n{"rew\nwhole\n'


def test_a_file_that_is_rotated_away_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    file = LineFile(path)
    file.append(b"first\n")
    path.rename(tmp_path / "rows.1")
    file.append(b"second\n")
    assert (tmp_path / "rows.1").read_text() == "first\n"
    assert path.read_text() == "second\n"


APPENDS = """
file = LineFile(Path(sys.argv[1]))
for number in range(50):
    file.append(json.dumps([sys.argv[2], number, "x" * 20_000]).encode() + b"\\n")
"""


def test_lines_of_several_processes_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    processes = [start(APPENDS, path, name) for name in "abcd"]
    assert [process.communicate(timeout=30)[0] for process in processes] == [""] * 4
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert sorted(row[:2] for row in rows) == [[name, n] for name in "abcd" for n in range(50)]
    assert {len(row[2]) for row in rows} == {20_000}


FILLS = """
path = Path(sys.argv[1])
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (26, most))
for line in ("0123456789", "abcdefghij", "klmnopqrst", "uvw"):
    try:
        LineFile(path).append(line.encode() + b"\\n")
    except OSError as exc:
        print(line, exc)
"""


def test_a_line_that_does_not_fit_the_disk_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    said, _ = start(FILLS, path).communicate(timeout=30)
    assert said == f"klmnopqrst [Errno 28] No space left on device: '{path}'\n"
    assert path.read_text() == "0123456789\nabcdefghij\nuvw\n"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = Path(os.devnull)
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises(OSError, match=f"Not a regular file: '{path}'"):
        LineFile(path).append(b"row\n")
