"""An interruption waits for the file that is being written."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from small_models import random_chain, save_chain

from certlip import api
from certlip.certificate import folder as store
from certlip.verification.uninterrupted import uninterrupted


def test_an_interruption_takes_effect_at_the_end_of_the_block():
    steps = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        steps.append("after the signal")
    assert steps == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_errors_pass_and_the_handler_comes_back():
    with pytest.raises(ZeroDivisionError), uninterrupted():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_certificate_is_finished_before_an_interruption(tmp_path, monkeypatch):
    path = save_chain(tmp_path / "m.onnx", random_chain(0, (2, 4, 3)))
    make = store.tempfile.mkstemp

    def interrupted(*arguments, **options):
        made = make(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(store.tempfile, "mkstemp", interrupted)
    with pytest.raises(KeyboardInterrupt):
        api.verify(path, "0.001", data=np.float32([[1.0, 0.0]]), certificates=tmp_path / "c")
    left = list((tmp_path / "c").iterdir())
    assert left and all(file.suffix in (".json", ".npy") and not file.name.startswith(".") for file in left)
