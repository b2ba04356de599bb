"""What a terminal shows while a run works; pipes and files get nothing of it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
from property_files import VACUOUS, VIOLATED, answer, lines_of, save_rows, save_suite
from rich.console import Console
from small_models import ROOT

from certlip.cli.progress import working


@pytest.fixture
def terminal(monkeypatch):
    """The console of a terminal, and what was written to it."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160, color_system=None)
    monkeypatch.setattr("certlip.report.console.err", lambda: console)
    return stream


def test_a_terminal_shows_counts_rate_and_the_current_item(terminal):
    with working(3) as (say, advance):
        say("net.onnx [bold]first[/].vnnlib")
        for status in ("certified", "falsified", "certified"):
            advance(answer(status))
    shown = terminal.getvalue()
    assert "3/3" in shown and "2 certified, 1 falsified" in shown and "0:00:00 left" in shown
    assert "net.onnx [bold]first[/].vnnlib" in shown and ("/s" in shown or "/min" in shown)


def test_without_a_total_there_is_only_what_is_worked_at(terminal):
    with working() as (say, _):
        say("lipsdp: all\x1b[2J")
    assert "lipsdp: all\\x1b[2J" in terminal.getvalue()


def test_nothing_elsewhere(capsys):
    with working(1) as (say, advance):
        say("x")
        advance(answer("certified"))
    assert capsys.readouterr() == ("", "")


def on_terminal(folder, *options, **streams) -> tuple[bytes, bytes]:
    """What a suite of a vacuous and a violated property prints to a pipe and to a terminal."""
    pty = pytest.importorskip("pty", reason="pseudo-terminals are for POSIX")
    save_suite(folder)
    suite = save_rows(folder, f"net.onnx,{VACUOUS}", f"net.onnx,{VIOLATED}")
    main, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "TERM": "xterm"}
    line = [sys.executable, "-m", "certlip", "verify", "--instances", str(suite), *options]
    process = subprocess.Popen(line, env=environment, stderr=terminal, **({"stdout": terminal} | streams))
    os.close(terminal)
    shown = bytearray()
    try:
        while part := os.read(main, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(main)
    out = process.stdout.read() if process.stdout else b""
    assert process.wait(timeout=60) == 1
    return out, bytes(shown)


def test_results_go_to_the_pipe_while_the_terminal_shows_progress(tmp_path):
    out, shown = on_terminal(tmp_path, "--jsonl", stdout=subprocess.PIPE)
    assert len(lines_of(out.decode())) == 2
    assert b"2 instances" in shown and b"\x1b[" in shown


def test_on_one_terminal_results_stand_on_lines_of_their_own(tmp_path):
    _, shown = on_terminal(tmp_path)
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
    for word in (rb"holds ", rb"violated "):
        assert re.search(rb"(^|\n|\r|\x1b\[2K)" + word, plain), plain
