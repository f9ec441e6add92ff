"""The catalogue: a model file is data and never code, and its card says what it is."""

from __future__ import annotations

import copy
import json
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import file_set
from napari_unet_cells.files.atomic import replace_or_claim
from napari_unet_cells.models import catalogue, model_file
from napari_unet_cells.models.card import ModelCard, file_sha256, read_card
from napari_unet_cells.models.catalogue import (
    broken_models,
    find_model,
    install,
    installed_models,
    lend,
    load_model,
    model_folders,
    next_name,
    save_model,
    take_back,
)

Config = dict[str, Any]


def keras_object(module: str | None, name: str, /, **config: Any) -> Config:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def layer(module: str | None, name: str, /, **config: Any) -> Config:
    return keras_object(module, name, **config) | {
        "name": name.lower(),
        "build_config": {"input_shape": [None, None, None, 3]},
        "inbound_nodes": [
            {
                "args": [
                    {
                        "class_name": "__keras_tensor__",
                        "config": {
                            "shape": [None, None, None, 3],
                            "dtype": "float32",
                            "keras_history": ["inputlayer", 0, 0],
                        },
                    }
                ],
                "kwargs": {},
            }
        ],
    }


def network() -> Config:
    """One 1x1 convolution, as Keras 3 writes it."""
    inputs = layer("keras.layers", "InputLayer", batch_shape=[None, None, None, 3], name="in")
    inputs["inbound_nodes"] = []
    inputs["name"] = "inputlayer"
    inputs["config"]["name"] = "inputlayer"
    conv = layer("keras.layers", "Conv2D", name="conv2d", filters=3, kernel_size=[1, 1])
    conv["config"]["dtype"] = keras_object("keras", "DTypePolicy", name="float32")
    conv["config"]["kernel_initializer"] = keras_object("keras.initializers", "Zeros")
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "functional",
            "trainable": True,
            "layers": [inputs, conv],
            "input_layers": ["inputlayer", 0, 0],
            "output_layers": ["conv2d", 0, 0],
        },
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
        "compile_config": {},
    }


def write_model(path: Path, config: object = None, card: bool = True, **members: Any) -> Path:
    """Write a `.keras` file by hand; `members` replace or add files in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {
        "metadata.json": '{"keras_version": "3.15.0"}',
        "config.json": json.dumps(network() if config is None else config),
        "model.weights.h5": "numbers",
    } | members
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if card:
        write_card(path)
    return path


def write_card(path: Path, **values: Any) -> None:
    card = ModelCard(
        name=path.stem,
        architecture="unet_mini",
        classes=("background", "cell", "boundary"),
        channels=3,
        stride=4,
        halo=48,
        sha256=file_sha256(path),
        trained_on=({"name": "dsb2018", "images": 5},),
        instances=InstanceOptions(min_size=20),
    ).as_dict()
    path.with_suffix(".json").write_text(json.dumps(card | values))


def test_a_good_model_is_read_with_its_card(tmp_path: Path) -> None:
    path = write_model(tmp_path / "mine.keras")
    card = read_card(path)
    assert (card.name, card.path, card.makes_cells) == ("mine", path, True)
    assert card.classes == ("background", "cell", "boundary")
    assert card.instances == InstanceOptions(min_size=20)
    assert find_model(path) == find_model(str(path)) == card


# --- attacks on config.json -------------------------------------------------------------


def set_in_layer(key: str, value: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config["config"]["layers"][1][key] = value

    return change


def set_in_config(key: str, value: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config["config"]["layers"][1]["config"][key] = value

    return change


def set_at_top(key: str, value: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config[key] = value

    return change


def add_layer(value: Config) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config["config"]["layers"].append(value)

    return change


SYSTEM = {
    "module": "os",
    "class_name": "function",
    "config": "system",
    "registered_name": "system",
}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}

# what -> (change of a good configuration, what the sentence must name)
ATTACKS: dict[str, tuple[Callable[[Config], None], str]] = {
    "lambda layer": (
        add_layer(layer("keras.layers", "Lambda", function=LAMBDA)),
        r"__lambda__, keras\.layers\.Lambda",
    ),
    "lambda as activation": (set_in_config("activation", LAMBDA), "__lambda__"),
    "function of os": (set_in_config("activation", SYSTEM), r"os\.function"),
    "function of builtins": (
        set_in_config("activation", SYSTEM | {"module": "builtins", "config": "exec"}),
        r"builtins\.function",
    ),
    "function of keras.src": (
        set_in_config(
            "activation", SYSTEM | {"module": "keras.src.utils.file_utils", "config": "get_file"}
        ),
        r"keras\.src\.utils\.file_utils\.function",
    ),
    "class of another module": (
        add_layer(layer("tensorflow.python.ops", "Conv2D")),
        r"tensorflow\.python\.ops\.Conv2D",
    ),
    "module that only begins like Keras": (
        add_layer(layer("keras_evil", "Conv2D")),
        r"keras_evil\.Conv2D",
    ),
    "allowed class of a Keras module we do not use": (
        add_layer(layer("keras.src.saving.saving_lib", "Conv2D")),
        r"saving_lib\.Conv2D",
    ),
    "layer that reads files": (
        add_layer(layer("keras.layers", "StringLookup", vocabulary="/etc/passwd")),
        "StringLookup",
    ),
    "layer that unpickles": (
        add_layer(layer("keras.layers", "TorchModuleWrapper", pickled="gASVAAAAAAAA")),
        "TorchModuleWrapper",
    ),
    "layer of the old format, without a module": (
        add_layer({"class_name": "Lambda", "name": "x", "config": {}, "inbound_nodes": []}),
        "Lambda",
    ),
    "old format of an allowed class": (
        add_layer({"class_name": "Functional", "name": "x", "config": {}, "inbound_nodes": []}),
        "Functional",
    ),
    "registered name": (set_in_layer("registered_name", "evil>Conv2D"), "evil>Conv2D"),
    "registered name at the top": (set_at_top("registered_name", "evil>Net"), "evil>Net"),
    "unknown activation": (set_in_config("activation", "boom"), r"the activation 'boom',"),
    "activation that steers": (set_in_config("activation", "\x1b[2J"), r"the activation '\\x1b"),
    "activation that is no word": (
        set_in_config("activation", [5]),
        r"the activation a list of 1,",
    ),
    "activation of a number": (set_in_config("activation", 5), r"the activation 5,"),
    "in build_config": (
        set_in_layer("build_config", {"input_shape": keras_object("os", "system")}),
        r"os\.system",
    ),
    "in an argument of a call": (
        set_in_layer("inbound_nodes", [{"args": [], "kwargs": {"mask": [[SYSTEM]]}}]),
        r"os\.function",
    ),
    "in compile_config": (
        set_at_top("compile_config", {"loss": SYSTEM}),
        r"compile_config, os\.function",
    ),
    "compile_config of strings only": (
        set_in_layer("compile_config", {"optimizer": "adam"}),
        "compile_config",
    ),
    "type specification": (
        set_in_config(
            "dtype",
            {"class_name": "__typespec__", "spec_name": "S", "module": "x", "config": []},
        ),
        r"x\.__typespec__",
    ),
    "class name that is no name": (set_in_layer("class_name", ["Conv2D"]), "Conv2D"),
    "module that is no name": (set_in_layer("module", {"a": 1}), "Conv2D"),
    "module without a class": (set_in_config("x", {"module": "os", "f": 1}), "os"),
    "another model class": (set_at_top("class_name", "Sequential"), "Sequential"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_could_run_code_is_named_and_refused(tmp_path: Path, name: str) -> None:
    change, named = ATTACKS[name]
    config = network()
    path = write_model(tmp_path / "m.keras", copy.deepcopy(config))
    read_card(path)  # the same without the change is good

    change(config)
    write_model(path, config)

    with pytest.raises(UserError, match=rf"m\.keras was not opened: it contains .*{named}"):
        read_card(path)


@pytest.mark.parametrize("config", [None, 5, [], {}, {"a": None}, "x"])
def test_a_file_without_a_network_is_damaged(config: Any, tmp_path: Path) -> None:
    members: dict[str, Any] = {"config.json": json.dumps(config)}
    path = write_model(tmp_path / "m.keras", **members)
    with pytest.raises(UserError, match=r"m\.keras is damaged: it holds no network"):
        read_card(path)


def test_the_network_itself_must_be_an_object_of_ours(tmp_path: Path) -> None:
    for config in ([SYSTEM], {"a": {"b": SYSTEM}}):
        with pytest.raises(UserError, match=r"os\.function"):
            model_file.check_model_file(write_model(tmp_path / "m.keras", config))


def test_a_thousandfold_nested_configuration_is_refused_not_followed(tmp_path: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    members: dict[str, Any] = {"config.json": deep}
    path = write_model(tmp_path / "m.keras", **members)
    with pytest.raises(UserError, match="damaged"):
        read_card(path)


# --- attacks on the archive -------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        "evil.py",
        "assets/vocabulary.txt",
        "model.weights.npz",
        "../model.weights.h5",
        "a/config.json",
    ],
)
def test_other_members_are_refused(tmp_path: Path, member: str) -> None:
    members: dict[str, Any] = {member: "x"}
    path = write_model(tmp_path / "m.keras", **members)
    with pytest.raises(UserError, match=f"contains {member}"):
        read_card(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_second_configuration_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UserError, match=r"a second config\.json"):
        read_card(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * 50_000_000)
        archive.writestr("model.weights.h5", "")
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"compressed config\.json"):
        read_card(path)
    members: dict[str, Any] = {"config.json": " " * (model_file.MAX_CONFIG_BYTES + 1)}
    write_model(path, **members)
    with pytest.raises(UserError, match="more than 10 MB"):
        read_card(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras")
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    while at >= 0:  # the flag of every entry in the directory
        struct.pack_into("<H", raw, at + 8, 1)
        at = raw.find(b"PK\x01\x02", at + 1)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="damaged"):
        read_card(path)


# --- files that are no model ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.h5", b"\x89HDF\r\n\x1a\n", r"m\.h5 is not a model file .* HDF5 and SavedModel"),
        ("m.pb", b"", "is not a model file"),
        ("m.keras", b"Hello, I am a text.", "is damaged"),
        ("m.keras", b"", "is damaged"),
        ("m.keras", b"\x89HDF\r\n\x1a\n" + bytes(100), "is damaged"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        find_model(tmp_path / name)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.keras").mkdir()
    for name in (tmp_path / "saved_model.keras", tmp_path, "."):
        with pytest.raises(UserError, match="is not a model file"):
            find_model(name)


@pytest.mark.parametrize("percent", [10, 60, 99])
def test_a_cut_off_model_is_damaged(tmp_path: Path, percent: int) -> None:
    path = write_model(tmp_path / "m.keras")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * percent // 100])
    with pytest.raises(UserError, match=r"m\.keras is damaged .*Copy it again"):
        read_card(path)


def test_a_flipped_byte_in_the_weights_is_noticed(tmp_path: Path) -> None:
    members: dict[str, Any] = {"model.weights.h5": "0123456789"}
    path = write_model(tmp_path / "m.keras", **members)
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780"))
    with pytest.raises(UserError, match=r"damaged \(model\.weights\.h5\)"):
        read_card(path)


# --- cards ------------------------------------------------------------------------------


def test_a_model_without_a_card(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras", card=False)
    with pytest.raises(UserError, match=r"has no card: m\.json is missing.* Copy both files"):
        read_card(path)


def test_a_card_that_is_a_folder_is_said_without_numbers(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras", card=False)
    path.with_suffix(".json").mkdir()
    with pytest.raises(UserError, match=r"cannot be read \([^\[\]]+\)\. Copy it again"):
        read_card(path)


def test_a_model_that_was_exchanged(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras")
    write_model(path, card=False, **{"model.weights.h5": "other numbers"})
    with pytest.raises(UserError, match=r"not the file that its card .*another sha256"):
        read_card(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[1]", "3", "null", '{"name": "m"}', "[" * 200_000, "\udcff"]
)
def test_a_damaged_card(tmp_path: Path, text: str) -> None:
    path = write_model(tmp_path / "m.keras")
    path.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"card .*m\.json cannot be read .*Copy it again"):
        read_card(path)


@pytest.mark.parametrize(
    "values",
    [
        {"stride": "16"},
        {"stride": 0},
        {"halo": -16},
        {"halo": 48, "stride": 64},
        {"halo": 5},
        {"halo": 10**9},
        {"channels": 0},
        {"channels": 17},
        {"classes": []},
        {"classes": ["background"]},
        {"classes": [str(i) for i in range(256)]},
        {"classes": [1, 2]},
        {"classes": None},
        {"instances": {"cell_threshold": 7}},
        {"instances": {"certainty": 7}},
        {"instances": []},
        {"instances": {"run": "rm"}},
        {"unknown": 1},
        {"name": 3},
        {"description": ["Nuclei."]},
        {"license": {"name": "MIT"}},
        {"date": None},
        {"works_on": 3},
        {"works_on": None},
        {"works_on": "Nuclei."},
        {"works_on": {"nuclei": "yes"}},
        {"works_on": ["Nuclei.", ["in", "fluorescence"]]},
        {"fails_on": [3]},
        {"fails_on": [None]},
        {"parent": ["cells-fast"]},
        {"distance": "yes"},
        {"parent": {"name": {"of": "it"}}},
        {"scores": [0.9]},
        {"trained_on": ["dsb2018"]},
        {"trained_on": {"name": "dsb2018"}},
        {"diameters": [1, 2, 3]},
        {"diameters": ["1", "2"]},
        {"diameters": [1, float("nan")]},
        {"diameter_window": [18]},
        {"diameter_window": [18, float("inf")]},
        {"typical_diameter": "23"},
        {"typical_diameter": 10**400},
    ],
)
def test_a_card_that_cannot_be_true(tmp_path: Path, values: dict[str, Any]) -> None:
    path = write_model(tmp_path / "m.keras")
    write_card(path, **values)
    with pytest.raises(UserError, match="cannot be read"):
        read_card(path)


@pytest.mark.parametrize(
    "values", [{"channels": 16}, {"channels": 2}, {"classes": [str(i) for i in range(255)]}]
)
def test_a_card_at_the_limits(tmp_path: Path, values: dict[str, Any]) -> None:
    path = write_model(tmp_path / "m.keras")
    write_card(path, **values)
    assert json.loads(json.dumps(read_card(path).as_dict())).items() >= values.items()


def test_what_it_works_on_is_kept(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras")
    said = {"works_on": ("Nuclei in H&E.", "Nuclei with DAPI."), "fails_on": ("Phase contrast.",)}
    write_card(path, **said)

    read_card(path).write()

    card = read_card(path)
    assert {"works_on": card.works_on, "fails_on": card.fails_on} == said


def test_an_older_card_does_not_say_what_it_works_on(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.keras")
    older = json.loads(path.with_suffix(".json").read_text())
    del older["works_on"], older["fails_on"]
    path.with_suffix(".json").write_text(json.dumps(older))
    card = read_card(path)
    assert card.works_on == card.fails_on == ()


# --- names ------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make empty folders of the user and of the package."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    assert model_folders() == (tmp_path / "home" / "models", tmp_path / "shipped")
    return model_folders()


def test_a_model_of_the_user_hides_a_shipped_one(folders: tuple[Path, Path]) -> None:
    own, shipped = folders
    write_model(shipped / "cells-fast.keras")
    write_model(shipped / "other.keras")
    assert find_model("cells-fast").path.parent == shipped

    write_model(own / "cells-fast.keras")

    assert find_model("cells-fast").path.parent == own
    found = installed_models()
    assert {name: card.path.parent for name, card in found.items()} == {
        "cells-fast": own,
        "other": shipped,
    }


def test_a_model_is_lent_and_taken_back(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_lent", {})
    path = write_model(tmp_path / "else" / "for a while.keras")
    assert "for a while" not in installed_models()
    lend(read_card(path))
    assert installed_models()["for a while"] == find_model("for a while") == read_card(path)
    path.unlink()
    assert "for a while" not in installed_models()  # its files are gone
    take_back("for a while")
    take_back("for a while")
    with pytest.raises(UserError, match="There is no model 'for a while'"):
        find_model("for a while")


def test_a_model_is_installed_under_a_name_of_its_own(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    card = read_card(write_model(tmp_path / "else" / "one.keras"))
    copy_of_it = install(card, "mine")
    assert copy_of_it == find_model("mine")
    assert copy_of_it.path.parent == folders[0]
    assert (copy_of_it.name, copy_of_it.sha256) == ("mine", card.sha256)
    with pytest.raises(UserError, match=r"mine\.keras exists already"):
        install(card, "mine")
    card.path.unlink()
    with pytest.raises(UserError, match=r"one\.keras cannot be read"):
        install(card, "other")


def test_a_broken_model_is_left_out_and_its_reason_kept(folders: tuple[Path, Path]) -> None:
    own, shipped = folders
    write_model(shipped / "good.keras")
    write_model(shipped / "hidden.keras")
    write_model(own / "hidden.keras", card=False)
    assert list(installed_models()) == ["good"]
    assert "has no card" in str(broken_models()["hidden"])
    with pytest.raises(UserError, match="has no card"):
        find_model("hidden")


def test_a_list_reads_again_only_what_changed(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(path: Path) -> ModelCard:
        read.append(path.stem)
        return read_card(path)

    own, _ = folders
    one, two = write_model(own / "one.keras"), write_model(own / "two.keras", card=False)
    read: list[str] = []
    monkeypatch.setattr(catalogue, "read_card", counted)
    installed_models()
    installed_models()  # both were written a moment ago
    assert sorted(read) == ["one", "one", "two", "two"]
    later = SimpleNamespace(time_ns=lambda: time.time_ns() + 10**10)
    monkeypatch.setattr(catalogue, "time", later)
    read.clear()
    for _ in range(3):
        assert list(installed_models()) == ["one"]
        assert "has no card" in str(broken_models()["two"])
    assert sorted(read) == ["one", "two"]
    write_card(two)
    assert sorted(installed_models()) == ["one", "two"]
    one.unlink()
    assert list(installed_models()) == ["two"]
    assert sorted(read) == ["one", "two", "two"]


@pytest.mark.parametrize(
    "name", ["nothing", "", "x" * 5000, "a\0b", "~nobody-here/m", "home/models/deep", "..", "*"]
)
def test_a_name_of_nothing_gets_a_sentence(folders: tuple[Path, Path], name: str) -> None:
    write_model(folders[1] / "good.keras")
    with pytest.raises(UserError, match=r"no model|is not a model file"):
        find_model(name)


def test_a_name_with_separators_is_a_path_and_never_looked_up(folders: tuple[Path, Path]) -> None:
    own, _ = folders
    write_model(own.parent / "secret.keras")
    for name in ("../secret", "..\\secret", "models/../secret"):
        with pytest.raises(UserError, match="There is no model"):
            find_model(name)
    assert find_model("home/secret.keras").name == "secret"


# --- with Keras -------------------------------------------------------------------------


@pytest.mark.network
def test_a_model_that_does_not_fit_its_card_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(tiny_model.read_bytes())
    card = json.loads(tiny_model.with_suffix(".json").read_text())
    for change in ({"channels": 1}, {"classes": ["background", "cell"]}):
        path.with_suffix(".json").write_text(json.dumps(card | change))
        with pytest.raises(UserError, match="does not fit its card"):
            load_model(read_card(path))
    path.with_suffix(".json").write_text(json.dumps(card))
    assert load_model(read_card(path)).count_params() > 0


@pytest.mark.network
def test_of_what_keras_says_the_cause_is_shown(tmp_path: Path) -> None:
    config = network()
    set_in_config("filters", "many")(config)
    path = write_model(tmp_path / "m.keras", config)
    with pytest.raises(UserError, match=r"m\.keras cannot be loaded: .*\. Copy it again") as caught:
        load_model(read_card(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert "class_name" not in str(caught.value)


@pytest.mark.network
def test_what_a_broken_model_lacks_is_said_in_our_words(tiny_model: Path, tmp_path: Path) -> None:
    import h5py

    with zipfile.ZipFile(tiny_model) as archive:
        members: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    weights = tmp_path / "w.h5"
    weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        del file["layers/conv2d/vars/0"]
    config = json.loads(members["config.json"])
    del config["config"]["layers"][-1]
    broken = {
        "model.weights.h5": (weights.read_bytes(), "the weights of its layer .* are missing or of"),
        "config.json": (json.dumps(config), "its description is not that of a network"),
    }
    for name, (content, said) in broken.items():
        path = write_model(tmp_path / "m.keras", **{**members, name: content})
        write_card(path, stride=16)
        with pytest.raises(UserError, match=rf"m\.keras cannot be loaded: {said}"):
            load_model(read_card(path))


def test_a_model_that_was_replaced_after_its_card_was_read_is_refused() -> None:
    card = find_model("cells")
    with pytest.raises(UserError, match=r"cells\.keras was replaced while it was opened"):
        load_model(replace(card, sha256="5" * 64))


@pytest.mark.network
@pytest.mark.parametrize("how", ["external link", "soft link", "external data", "virtual data"])
def test_weights_that_read_other_files_are_refused(
    tiny_model: Path, tmp_path: Path, how: str
) -> None:
    """Keras does that; this test tells when it stops doing so."""
    import h5py

    with zipfile.ZipFile(tiny_model) as archive:
        members: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    weights = tmp_path / "w.h5"
    weights.write_bytes(members["model.weights.h5"])
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["v"] = [0.0] * 12
    with h5py.File(weights, "a") as file:
        found: list[str] = []
        file.visititems(
            lambda name, item: found.append(name) if getattr(item, "shape", ()) == (12,) else None
        )
        (bias,) = found  # of the head: 4 x 3 classes
        group = file[bias].parent
        del group["1"]
        if how == "external link":
            group["1"] = h5py.ExternalLink(str(secret), "v")
        elif how == "soft link":
            group["1"] = h5py.SoftLink("/layers/conv2d/vars/0")
        elif how == "external data":
            group.create_dataset("1", (12,), "f4", external=[(str(secret), 0, 48)])
        else:
            layout = h5py.VirtualLayout((12,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "v", (12,))
            group.create_virtual_dataset("1", layout)
    members["model.weights.h5"] = weights.read_bytes()
    path = write_model(tmp_path / "m.keras", **members)
    write_card(path, stride=16)
    with pytest.raises(UserError, match=r"m\.keras cannot be loaded"):
        load_model(read_card(path))


def test_nothing_here_has_loaded_keras_without_the_mark(request: pytest.FixtureRequest) -> None:
    import sys

    if not any(item.get_closest_marker("network") for item in request.session.items):
        assert not {"keras", "tensorflow"} & set(sys.modules)


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("cells", "cells-2"),
        ("cells-2", "cells-3"),
        ("../../ESCAPED", "ESCAPED-2"),
        ("/etc/cron.d/x", "etc_cron.d_x-2"),
        ("..\\x\x1b[2J\n", "x_2J-2"),
        ("con", "model-2"),
        ("..", "model-2"),
        ("x" * 300, "x" * 60 + "-2"),
        ("a-\u00b2", "a-\u00b2-2"),
        ("a-" + "9" * 50, "a-" + "9" * 50 + "-2"),
    ],
)
def test_the_name_of_a_new_model_is_that_of_a_file(name: str, new: str) -> None:
    assert next_name(name) == new


def test_cards_that_differ_have_other_digests(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path / "m.keras"))
    assert card.digest() == replace(card).digest()
    assert card.digest() != replace(card, halo=card.halo + 16).digest()


@pytest.mark.network
@pytest.mark.parametrize("number", [np.nan, -np.inf, 3e38])
def test_weights_that_are_no_numbers_are_refused(
    tiny_model: Path, tmp_path: Path, number: float
) -> None:
    import keras

    card = read_card(tiny_model)
    model = load_model(card)
    kernel = model.layers[-1].weights[0]
    kernel.assign(np.full(kernel.shape, number, np.float32))
    assert isinstance(model, keras.Model)
    bad = save_model(model, replace(card, path=tmp_path / "bad.keras"))
    with pytest.raises(UserError, match=r"bad\.keras holds numbers that are none .* in its layer"):
        load_model(bad)


@pytest.mark.parametrize("moved", [0, 1], ids=["before the network", "before its card"])
@pytest.mark.parametrize("by", ["name", "path", "list"])
def test_a_model_that_replaces_another_when_it_is_killed_is_whole(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, moved: int, by: str
) -> None:
    class Killed(BaseException):
        pass

    class Network:
        def save(self, path: Path) -> None:
            path.write_bytes(new.read_bytes())

    def move(*of: Any, **options: Any) -> None:
        if len(done) == moved:
            raise Killed
        done.append(real(*of, **options))

    folder, elsewhere = folders
    weights: dict[str, Any] = {"model.weights.h5": b"other weights"}
    new = write_model(elsewhere / "new.keras", **weights)
    path = write_model(folder / "mine.keras")
    old, done, real = read_card(path), [], replace_or_claim
    with monkeypatch.context() as patch:
        patch.setattr(file_set, "replace_or_claim", move)
        with pytest.raises(Killed):
            save_model(cast(Any, Network()), replace(read_card(new), name="mine", path=path))
    assert len(done) == moved
    # The program is gone, and not only a call of it.
    monkeypatch.setattr(file_set, "_is_left", lambda path, found: True)

    card = (
        installed_models()["mine"] if by == "list" else find_model("mine" if by == "name" else path)
    )

    assert card.sha256 == read_card(new).sha256 != old.sha256
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
