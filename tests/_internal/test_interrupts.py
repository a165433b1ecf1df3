"""Tests of `bayesgen._internal.interrupts`."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bayesgen._internal import interrupts


def _end_itself():
    with interrupts.watched():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of a process in the foreground; one in the background may ignore SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_raises_and_handlers_are_put_back():
    with pytest.raises(interrupts.Stopped) as stop:
        _end_itself()
    assert stop.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # until the process ends


def test_handlers_are_put_back_without_a_signal():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.watched():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_swallowed_stop_is_raised_again():
    watch = interrupts.Watch()
    watch.check()
    watch.number = 15
    with pytest.raises(interrupts.Stopped):
        watch.check()


def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal, time\nfrom bayesgen._internal import interrupts\n"
        "with interrupts.watched():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(5)\n"
        "    except BaseException:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == ""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks")
def test_children_do_not_get_the_signal():
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with interrupts.kept_from_children():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
