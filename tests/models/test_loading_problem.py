"""What libraries say of a broken model, as words that a biologist can act on."""

from __future__ import annotations

import pytest

from napari_unet_cells.models.loading_problem import loading_problem


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "it does not fit into the memory"),
        (
            RuntimeError(
                "{{function_node __wrapped__StatelessRandomUniformV2_device_/job:localhost}} OOM "
                "when allocating tensor with shape[3,3,3,1000000000]"
            ),
            "it does not fit into the memory",
        ),
        (
            ValueError("Expected a model.weights.h5 or model.weights.npz file."),
            "it has no weights",
        ),
        (
            OSError("Unable to synchronously open file (bad superblock version number)"),
            "its weights are damaged",
        ),
        (
            ValueError(
                "A total of 1 objects could not be loaded. Example error message for object "
                "<Functional name=net, built=True>:\n\nLayer has 0.\n\nList of objects that could "
                "not be loaded:\n[<BatchNormalization name=conv1_bn, built=True>]"
            ),
            "the weights of its layer conv1_bn are missing or of another shape",
        ),
        (
            TypeError("'<=' not supported between instances of 'str' and 'int'"),
            "its description is not that of a network",
        ),
        (KeyError("name"), "its description is not that of a network"),
        (ValueError(""), "its description is not that of a network"),
    ],
)
def test_the_cause_is_said_and_nothing_of_a_library(error: Exception, said: str) -> None:
    assert loading_problem(error) == said


def test_of_a_file_without_a_description_another_cause_is_said() -> None:
    assert loading_problem(ValueError("x"), "its layers are others") == "its layers are others"
    assert loading_problem(MemoryError(), "its layers are others") != "its layers are others"


def test_the_name_of_a_layer_cannot_steer_a_terminal() -> None:
    said = loading_problem(ValueError("[<Conv2D name=\x1b[2J" + "x" * 500 + ", built=True>]"))
    assert said.isprintable()
    assert len(said) < 150
