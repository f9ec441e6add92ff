"""`benchmarks/gpu.py` on the CPU, and what it finds fault with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gpu
import pytest

RESULT: dict[str, Any] = {
    "device": "GPU, PyTorch float32, Imaginary 9000",
    "part of the pixels with the class of the CPU": 0.99995,
    "loss of other crops before and after": [0.5, 0.4],
}


def test_other_classes_and_a_rising_loss_are_faults() -> None:
    assert gpu.faults({"cells": RESULT}) == []
    other = {**RESULT, "part of the pixels with the class of the CPU": 0.995}
    assert gpu.faults({"cells": other}) == [
        "cells: only 99.50% of the pixels have the class of the CPU"
    ]
    assert gpu.faults({"cells": {**other, "device": "GPU, PyTorch bfloat16, Imaginary"}}) == []
    for after in (0.7, float("nan")):
        worse = {**RESULT, "loss of other crops before and after": [0.5, after]}
        assert gpu.faults({"cells": worse}) == [f"cells: the loss went from 0.500 to {after:.3f}"]


@pytest.mark.torch
def test_it_measures_with_pytorch_and_without_tensorflow(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import sys

    monkeypatch.setattr(gpu, "TILES", (128,))
    monkeypatch.setattr(gpu, "CROPS", (1,))
    path = tmp_path / "gpu.json"
    arguments = ["--runtime", "torch", "--models", str(tiny_model), "--seconds", "0.01"]
    assert gpu.main([*arguments, "-o", str(path)]) == 0
    (result,) = json.loads(path.read_text()).values()
    assert "PyTorch" in result["device"]
    assert result["megapixels a second by side of the tile"]["128"] > 0
    assert result["steps a second by crops of 256 x 256"]["1"] > 0
    assert "tensorflow" not in sys.modules
    assert "All is as it must be." in capsys.readouterr().out
