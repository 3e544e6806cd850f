"""Every test sees an empty cache and no folder of the user; the benchmark files, where they are, come as a fixture."""

import http.server
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
_REAL = Path(os.environ.get("ELBAX_DATA_DIR") or _REPOSITORY.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("ELBAX_DATA_DIR", raising=False)
    monkeypatch.setenv("ELBAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real(monkeypatch):
    if not (_REAL / "mnist").is_dir():
        pytest.skip(f"no benchmark files in {_REAL}: set ELBAX_DATA_DIR")
    monkeypatch.setenv("ELBAX_DATA_DIR", str(_REAL))
    return _REAL


@pytest.fixture
def user_dir(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("ELBAX_DATA_DIR", str(folder))
    return folder


@dataclass
class Server:
    """Serves `content` by path. A path in `cut` announces all bytes, sends half of them, and then ends or hangs."""

    content: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    base: str = ""
    sent_half: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            state.asked.append(name)
            body = state.content.get(name)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in state.cut else body)
            self.wfile.flush()
            if state.cut.get(name) == "hang":
                state.sent_half.set()
                state.released.wait(30)

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.base = f"http://127.0.0.1:{running.server_address[1]}/"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield state
        state.released.set()
        running.shutdown()
        thread.join()
