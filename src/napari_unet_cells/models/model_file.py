"""A model file is data, never code: what a `.keras` file may hold, checked without Keras.

A `.keras` file is a zip archive::

    config.json         the network as nested objects {module, class_name, config, ...}
    metadata.json       versions
    model.weights.h5    the numbers

Keras makes whatever `config.json` names, and some of what it can name runs code (a Lambda
layer, a function or class of any module it can import). So an object is let through only
where module and class together are one that our own architectures are made of.

Of `model.weights.h5`, Keras (3.15 and later) itself refuses what reads other files: external
and soft links, external and virtual data sets.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.untrusted.json_text import parse_json
from napari_unet_cells.untrusted.rules import printable, shown

#: Modules and the classes of them that our architectures are made of.
ALLOWED_OBJECTS: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"__keras_tensor__"}),  # Keras' own mark for "output of that layer"
    "keras": frozenset({"DTypePolicy"}),
    "keras.initializers": frozenset({"GlorotUniform", "HeNormal", "Ones", "Zeros"}),
    "keras.layers": frozenset(
        {
            "Activation",
            "Add",
            "BatchNormalization",
            "Concatenate",
            "Conv2D",
            "Conv2DTranspose",
            "DepthwiseConv2D",
            "Dropout",
            "InputLayer",
            "MaxPooling2D",
            "ReLU",
            "Rescaling",
            "UpSampling2D",
            "ZeroPadding2D",
        }
    ),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.ops.nn": frozenset({"DepthToSpace"}),
    "keras.src.ops.numpy": frozenset({"Flip"}),
}

#: Activations of our networks, and those that keras.applications names.
ALLOWED_ACTIVATIONS = frozenset({"linear", "relu", "relu6", "softmax", "sigmoid"})

_WEIGHTS = "model.weights.h5"

MEMBERS = frozenset({"config.json", "metadata.json", _WEIGHTS})

#: Far more than a network's description takes (80 kB), far less than harms.
MAX_CONFIG_BYTES = 10_000_000


def check_model_file(path: Path) -> Any:
    """Refuse everything but a `.keras` file made of the layers our architectures use.

    Returns
    -------
    JSON
        Configuration of the network.

    Raises
    ------
    UserError
        With the reason.
    """
    if path.suffix != ".keras" or not path.is_file():
        raise UserError(
            f"{path} is not a model file of this program: models are .keras files. HDF5 "
            "and SavedModel files can hold code and are not opened."
        )
    foreign, config = _read(path)
    if not foreign:
        foreign = sorted(set(_foreign_objects(config)))
    if foreign:
        raise UserError(
            f"The model {path.name} was not opened: it contains {_named(foreign)}, which our "
            "networks do not use and which could run code on this computer. Use models made by "
            "this program only."
        )
    if not isinstance(config, dict) or "class_name" not in config:
        raise UserError(
            f"The model {path.name} is damaged: it holds no network. Copy it again from where "
            "it came from."
        )
    return config


def weights_bytes(path: Path) -> int:
    """Give the size of the weights in a model file that `check_model_file` let pass.

    Raises
    ------
    UserError
        Where it was damaged or exchanged since.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.getinfo(_WEIGHTS).file_size
    except KeyError:
        return 0
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(
        f"The model {path.name} is damaged and cannot be opened. Copy it again from where it came "
        "from."
    )


def _read(path: Path) -> tuple[list[str], Any]:
    """Give the names of members that Keras does not write, else none, and the configuration."""
    config = damaged = None
    try:
        with zipfile.ZipFile(path) as archive:
            foreign = _foreign_members(archive)
            if not foreign:
                config = parse_json(archive.read("config.json"), lenient=True)
                damaged = archive.testzip()
    # NotImplementedError and RuntimeError: an unknown compression, an encrypted member
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise _damaged(path) from error
    if damaged is not None:
        raise UserError(f"The model {path.name} is damaged ({damaged}). Copy it again.")
    return foreign, config


def _named(foreign: Sequence[str]) -> str:
    """Name the first of them; a file may hold a million, and signs that are none."""
    more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
    return ", ".join(printable(name, 60) for name in foreign[:5]) + more


def _foreign_members(archive: zipfile.ZipFile) -> list[str]:
    """Name the members that Keras does not write: other files, or one of them twice."""
    members = archive.infolist()
    names = [member.filename for member in members]
    foreign = sorted(set(names) - MEMBERS)
    # Keras stores without compression, so nothing can be larger inside than outside
    foreign += [f"compressed {m.filename}" for m in members if m.compress_type]
    foreign += sorted(f"a second {name}" for name in MEMBERS if names.count(name) > 1)
    if not foreign and archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
        foreign.append("a config.json of more than 10 MB")
    return foreign


def _foreign_objects(config: object) -> Iterator[str]:
    """Yield what a Keras configuration names and our networks are not made of.

    Every dictionary is looked at, wherever it lies (arguments of a layer, `build_config`,
    `inbound_nodes`, ...): Keras makes an object of each that has a `class_name`.
    """
    pending: list[Any] = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
            yield from _foreign_names(value)
        elif isinstance(value, list):
            pending.extend(value)


def _foreign_names(item: dict[str, Any]) -> Iterator[str]:
    if "class_name" in item:
        module, name = item.get("module"), item["class_name"]
        known = isinstance(name, str) and (module is None or isinstance(module, str))
        if not known or name not in ALLOWED_OBJECTS.get(module, ()):
            yield str(name) if module is None else f"{module}.{name}"
        # a registered name is looked up before the class
        elif item.get("registered_name") not in (None, name):
            yield str(item["registered_name"])
    elif "module" in item or "registered_name" in item:
        yield str(item.get("registered_name") or item["module"])
    # an object is looked at for itself; null is "linear"
    activation = item.get("activation")
    named = not isinstance(activation, dict) and activation is not None
    if named and activation not in (*ALLOWED_ACTIVATIONS,):
        yield f"the activation {shown(activation)}"
    # optimizer, loss and metrics; ours are saved without
    if item.get("compile_config"):
        yield "compile_config"
