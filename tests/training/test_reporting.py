"""What a run shows and writes: metrics, throughput, progress, precision, random states."""

import io
import json
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from llmlib.training import autocast, process_group, read_metrics, resolve_precision, throughput
from llmlib.training.checkpointing.random_state import random_state, set_random_state
from llmlib.training.metrics import Meter, MetricsFile
from llmlib.training.progress import StopRequest, TrainingProgress, stop_on_signals


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_metrics_of_steps_that_come_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "run/metrics.jsonl"
    with MetricsFile(path, after_step=0) as metrics:
        for step in range(1, 8):
            metrics.write({"step": step, "loss": 1 / step})
    with path.open("a") as file:
        file.write('{"step": 8, "loss": 0.1')
    with MetricsFile(path, after_step=5) as metrics:
        metrics.write({"step": 6, "loss": 0.5})
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4, 5, 6]
    assert read_metrics(path)[-1]["loss"] == 0.5
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_the_rate_is_that_of_recent_steps() -> None:
    meter = Meter(flops_per_token=10.0, peak_flops=4000.0)
    for _ in range(30):
        meter.count(7, 1.0)
    for _ in range(20):
        meter.count(100, 0.5)
    read = meter.read()
    assert (read["tokens"], read["seconds"]) == (30 * 7 + 2000, 40.0)
    assert read["tokens_per_second"] == pytest.approx(200.0)
    assert read["mfu"] == pytest.approx(0.5)
    assert throughput(10, 2.0) == {"tokens_per_second": 5.0}


def test_a_plain_stream_gets_a_line_now_and_then() -> None:
    stream = io.StringIO()
    with TrainingProgress(1000, stream=stream, every_s=3600.0) as progress:
        for step in range(1, 1000):
            progress.update(step, 2.5, 1234.5)
        assert stream.getvalue() == ""
        progress.update(1000, 2.5, 1234.5)
    assert stream.getvalue() == "step 1000/1000  loss 2.500  1,234 tokens/s  0:00 left\n"


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with TrainingProgress(20, start=5, stream=stream) as progress:
        progress.update(6, 2.5, 1234.5)
        progress.say("a remark")
    shown = stream.getvalue()
    assert "6/20" in shown
    assert "2.500" in shown
    assert "a remark" in shown


def test_hidden_progress_is_silent() -> None:
    stream = Terminal()
    with TrainingProgress(1, stream=stream, show=False) as progress:
        progress.update(1, 2.5, 1.0)
        progress.say("a remark")
    assert stream.getvalue() == ""


def test_the_second_ctrl_c_stops_at_once() -> None:
    # A process that was started in the background ignores the signal from the first.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        request = StopRequest()
        with stop_on_signals(request):
            os.kill(os.getpid(), signal.SIGINT)
            assert request.made
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)


@pytest.mark.covers("train.resume")
def test_every_random_generator_comes_back() -> None:
    random.gauss(0, 1)  # leaves a second number waiting inside
    np.random.standard_normal()
    tensors, numbers = random_state()
    numbers = json.loads(json.dumps(numbers))

    def draw() -> tuple[float, ...]:
        drawn = random.random(), random.gauss(0, 1), np.random.standard_normal(), np.random.random()
        return (*drawn, torch.rand(()).item())

    first = draw()
    draw()
    set_random_state(tensors, numbers)
    assert draw() == first


@pytest.mark.covers("train.mixed-precision")
def test_precision_is_resolved_and_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("llmlib.training.precision.supports_bfloat16", lambda _, has=has: has)
        assert resolve_precision("auto", device) == expected
        with autocast("auto", device):
            assert (torch.ones(2, 3) @ torch.ones(3, 5)).dtype == expected


def test_alone_there_is_no_process_group() -> None:
    with process_group("cpu") as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()


def test_metrics_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"why": "a\u2028b\x85c"}\n\n{"step": 2}\n{"st', encoding="utf-8")
    assert read_metrics(path) == [{"why": "a\u2028b\x85c"}, {"step": 2}]
