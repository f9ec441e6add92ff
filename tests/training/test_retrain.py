"""Retraining: a dataset and a base in, a model with its card out; what prevents it is said."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_unet_cells.core.instance_options import InstanceOptions, MergeRule
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, default_model, find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.training.crops import Mosaic
from napari_unet_cells.training.events import (
    Choosing,
    Preparing,
    Retrained,
    RetrainOptions,
    StepDone,
    Verdict,
    describe_outcome,
    event_as_dict,
    event_of_dict,
)

pytestmark = pytest.mark.network


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def derived(monkeypatch) -> list[str]:
    """Names of the models that would be converted, which takes seconds for each."""
    from napari_unet_cells.training import retrain

    names: list[str] = []
    monkeypatch.setattr(retrain, "derive", lambda card: names.append(card.name))
    return names


@pytest.fixture(scope="module")
def cache():
    from napari_unet_cells.training.tuner_cache import TunerCache

    return TunerCache()


@pytest.fixture(scope="module")
def encoder_cache():
    """Keep the graphs of a fresh start from the tiny model, beside those that tune it."""
    from napari_unet_cells.training.tuner_cache import TunerCache

    return TunerCache()


@pytest.fixture(scope="module")
def small_cache():
    """Keep the graphs of a tuning with one crop in a step."""
    from napari_unet_cells.training.tuner_cache import TunerCache

    return TunerCache()


@pytest.fixture
def base_that_knows(monkeypatch) -> None:
    """Have the base taken for one that knows such cells, so that they are seen as it sees them."""
    monkeypatch.setattr("napari_unet_cells.training.tuning.KNOWN", 0.0)


@pytest.fixture
def dataset(tmp_path) -> Path:
    return make_dataset(tmp_path / "mine", 6)


def make_dataset(folder: Path, n: int, value: int | None = None, diameter: float = 20.0) -> Path:
    """Make a folder of images and masks as a person would; `value` replaces all of a mask."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for seed in range(n):
        image, truth = simulate_nuclei((150, 140), diameter=diameter, seed=seed)
        if value is not None:
            truth = np.full_like(truth, value)
        tifffile.imwrite(folder / "images" / f"im{seed}.tif", image)
        tifffile.imwrite(folder / "masks" / f"im{seed}.tif", truth.astype(np.uint16))
    return folder


def regions_of_one_image(folder: Path, n: int) -> Path:
    """Make a dataset of approved regions that were cut from one image and not corrected."""
    make_dataset(folder, n)
    shutil.copytree(folder / "masks", folder / "first")
    inside = {"top": 10, "bottom": 140, "left": 10, "right": 130}
    records = [
        {"name": f"im{i}.tif", "source": {"sha256": "one"}, "inside": inside, "edited": False}
        for i in range(n)
    ]
    (folder / "index.json").write_text(json.dumps(records))
    return folder


def events_of(dataset, base, cache, **options):
    from napari_unet_cells.training.retrain import retrain

    output = options.pop("output", None)
    stop = options.pop("stop", lambda: False)
    since = options.pop("since", None)
    chosen = RetrainOptions(**{"steps": 2, **options})
    return list(retrain(dataset, base, output, chosen, stop, cache, since=since))


def test_a_retraining_tells_its_steps_and_writes_a_model(home, dataset, tiny_model, cache):
    before = tiny_model.read_bytes()

    preparing, *steps, choosing, done = events_of(dataset, tiny_model, cache)

    assert preparing == Preparing(learned_from=5, held_out=1)
    assert [step.step for step in steps] == [1, 2]
    assert all(isinstance(step, StepDone) and step.loss > 0 for step in steps)
    assert steps[-1].score is not None
    assert isinstance(choosing, Choosing)
    assert isinstance(done, Retrained)
    card = find_model("tiny-2")
    assert card == done.card
    assert card.path.parent == home / "models"
    assert card.parent == {"name": "tiny", "sha256": read_card(tiny_model).sha256}
    assert card.trained_on[-1] == {"name": "mine", "images": 5}
    assert card.scores["held_out"]["images"] == 1
    assert card.typical_diameter == read_card(tiny_model).typical_diameter
    assert tiny_model.read_bytes() == before


def test_seven_regions_of_one_image_change_no_size_and_no_threshold(
    home, tmp_path, tiny_model, cache, base_that_knows
):
    base = replace(
        read_card(tiny_model),
        name="sized",
        diameters=(30.0, 50.0),  # the cells of the image are smaller
        diameter_window=(18.0, 36.0),
        instances=InstanceOptions(split=0.65, min_probability=0.6, min_size=12),
        path=tmp_path / "sized.keras",
    )
    shutil.copy(tiny_model, base.path)
    base.write()

    *_, done = events_of(regions_of_one_image(tmp_path / "one", 7), base.path, cache)

    card = find_model("sized-2")
    assert done.card == card
    for name in ("diameters", "diameter_window", "typical_diameter", "instances"):
        assert getattr(card, name) == getattr(base, name)
    assert default_model() == DEFAULT_MODEL


def test_thresholds_are_chosen_where_enough_is_held_out(
    home, tmp_path, tiny_model, cache, monkeypatch
):
    asked = []

    def fit(examples, start, rounds):
        asked.append(start)
        return start

    monkeypatch.setattr("napari_unet_cells.training.tuning.fit_instances", fit)
    few = make_dataset(tmp_path / "few", 10)  # holds two out
    many = make_dataset(tmp_path / "many", 15)
    monkeypatch.setattr("napari_unet_cells.training.tuning.CELLS_TO_FIT", 1)
    events_of(few, tiny_model, cache)
    assert asked == []
    monkeypatch.setattr("napari_unet_cells.training.tuning.CELLS_TO_FIT", 1000)
    events_of(many, tiny_model, cache)
    assert asked == []
    monkeypatch.setattr("napari_unet_cells.training.tuning.CELLS_TO_FIT", 10)
    events_of(many, tiny_model, cache)
    assert asked == [read_card(tiny_model).instances]


@pytest.mark.parametrize(("n", "held_out"), [(6, 1), (2, 0)])
def test_what_got_no_better_keeps_the_weights_of_its_base(
    home, tmp_path, tiny_model, cache, monkeypatch, n, held_out
):
    """Were a network worse after learning, nobody would retrain again."""
    from napari_unet_cells.models.catalogue import load_model
    from napari_unet_cells.training import mixing, tuning

    folder = make_dataset(tmp_path / "mine", n)
    start = load_model(read_card(tiny_model)).get_weights()

    def measure(self, card, examples=None):
        now = self.tuner.get_weights()
        same = all((a == b).all() for a, b in zip(start, now, strict=True))
        assert len(self.measured if examples is None else examples) == (held_out or n)
        return mixing.Measurement(0.6 if same else tuned, (0.0, 1.0), held_out)

    monkeypatch.setattr(tuning.Tuning, "measure", measure)
    tuned = 0.6 if held_out else 0.59
    *_, done = events_of(folder, tiny_model, cache)
    assert (done.mixture, done.verdict) == (0.0, Verdict.KEPT)
    assert done.after == done.before == (0.6 if held_out else None)
    for weight, expected in zip(load_model(done.card).get_weights(), start, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert done.card.typical_diameter == read_card(tiny_model).typical_diameter
    assert done.card.tuned_diameter == 0

    tuned = 0.61
    *_, done = events_of(folder, tiny_model, cache)
    assert done.mixture == 1.0
    widths = [diameters_of(tifffile.imread(path)) for path in (folder / "masks").iterdir()]
    # Those of cells that the border cuts count in `widths` only.
    assert done.card.tuned_diameter == pytest.approx(np.median(np.concatenate(widths)), rel=0.15)


@pytest.fixture
def sized(tiny_model, tmp_path):
    """Give the tiny model with another window and limits that go with the scale."""

    def made(window: tuple[float, float]) -> ModelCard:
        base = replace(
            read_card(tiny_model),
            name="sized",
            diameter_window=window,
            instances=InstanceOptions(min_size=20),
            path=tmp_path / "sized.keras",
        )
        shutil.copy(tiny_model, base.path)
        base.write()
        return base

    return made


class Scores:
    """Stands in for `Tuning.measure`: what the base and the tuned weights score."""

    def __init__(self, monkeypatch, base: ModelCard, before: float) -> None:
        from napari_unet_cells.models.catalogue import load_model
        from napari_unet_cells.training import mixing, tuning

        self.before, self.tuned = before, 0.9
        start = load_model(base).get_weights()
        #: Window, smallest cell and zoom with which they were measured.
        self.of_base: set[tuple[tuple[float, float], int, float]] = set()
        self.of_tuned: set[tuple[tuple[float, float], int, float]] = set()

        def measure(work, card, examples=None):
            now = work.tuner.get_weights()
            same = all((a == b).all() for a, b in zip(start, now, strict=True))
            seen = card.diameter_window, card.instances.min_size, work.zooms[""]
            (self.of_base if same else self.of_tuned).add(seen)
            return mixing.Measurement(self.before if same else self.tuned, (0.0, 1.0), 1)

        monkeypatch.setattr(tuning.Tuning, "measure", measure)


@pytest.mark.parametrize(
    ("n", "diameter", "window", "score", "seen", "zooms"),
    [
        (6, 12, (18.0, 36.0), 0.49, (27.0, 54.0), 1.5),
        (2, 12, (18.0, 36.0), 0.49, (27.0, 54.0), 1.5),  # nothing is held out
        (2, 12, (18.0, 36.0), 0.5, (18.0, 36.0), 1.0),  # it knows such cells
        (2, 22, (18.0, 36.0), 0.49, (27.0, 54.0), 1.2),  # only as large as the window asks for
        (2, 31, (18.0, 36.0), 0.49, (18.0, 36.0), 1.0),  # as they are in both windows
        (2, 12, (27.0, 54.0), 0.49, (27.0, 54.0), 1.0),  # it was retrained so before
        (2, 12, (0.0, 0.0), 0.49, (0.0, 0.0), 1.0),  # it sees images as they are
        (2, 12, (18.0, 80000.0), 0.49, (18.0, 80000.0), 1.0),  # no card could say so
    ],
)
def test_cells_that_the_base_does_not_know_are_seen_larger(
    home, tmp_path, sized, cache, monkeypatch, n, diameter, window, score, seen, zooms
):
    drawn: list[float] = []

    class Drawn(Mosaic):
        def __post_init__(self):
            drawn.extend(plane.zoom for plane in self.planes)
            super().__post_init__()

    base = sized(window)
    scores = Scores(monkeypatch, base, score)
    monkeypatch.setattr("napari_unet_cells.training.tuning.Mosaic", Drawn)
    folder = make_dataset(tmp_path / "mine", n, diameter=diameter)
    *_, done = events_of(folder, base.path, cache)
    ((_, _, before),) = scores.of_base
    ((_, _, zoom),) = scores.of_tuned
    assert zoom / before == pytest.approx(zooms, rel=0.1)
    smallest = round(20 * (zoom / before) ** 2)
    assert scores.of_base == {(window, 20, before)}
    assert scores.of_tuned == {(seen, smallest, zoom)}
    assert set(drawn) == {zoom}
    assert (done.card.diameter_window, done.card.instances.min_size) == (seen, smallest)
    assert read_card(done.card.path) == done.card

    scores.tuned = 0.0
    *_, done = events_of(folder, base.path, cache)
    assert done.mixture == 0  # the weights of the base, seen as the base sees
    assert (done.card.diameter_window, done.card.instances.min_size) == (window, 20)


def test_a_tuning_that_goes_on_stays_at_its_larger_scale(home, tmp_path, sized, cache, monkeypatch):
    base = sized((18.0, 36.0))
    scores = Scores(monkeypatch, base, 0.1)
    folder = make_dataset(tmp_path / "mine", 2, diameter=12)
    *_, first = events_of(folder, base.path, cache)
    assert first.card.diameter_window == (27.0, 54.0)
    scores.before = 0.6  # other regions are approved, of which the base knows more
    *_, second = events_of(folder, base.path, cache, since=first.card.path)
    assert second.card.diameter_window == (27.0, 54.0)
    *_, anew = events_of(folder, base.path, cache)
    assert anew.card.diameter_window == (18.0, 36.0)


def test_only_held_out_images_and_a_tuning_that_goes_on_are_trusted_to_go_far(
    home, tmp_path, tiny_model, cache, monkeypatch
):
    """What was learned from favours the long way, and a tuning that goes on went a short one."""
    from napari_unet_cells.training import tuning

    asked = []

    def how_far(scored, before, learned_from=False):
        asked.append(learned_from)
        return 1.0

    monkeypatch.setattr(tuning, "how_far", how_far)
    few, many = make_dataset(tmp_path / "few", 2), make_dataset(tmp_path / "many", 6)
    *_, first = events_of(few, tiny_model, cache)
    events_of(few, tiny_model, cache, since=first.card.path)
    events_of(many, tiny_model, cache)
    assert asked == [True, False, False]


@pytest.mark.parametrize(("score", "taken"), [(0.7, True), (0.6, True), (0.59, False)])
def test_the_rule_for_touching_parts_is_fitted_to_the_regions_where_held_out_cells_agree(
    home, dataset, tiny_model, cache, tmp_path, monkeypatch, score, taken
):
    from napari_unet_cells.models.catalogue import load_model
    from napari_unet_cells.training import mixing, tuning

    before = MergeRule(0.1, 1.0, -8.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    fitted = replace(before, boundary=-3.0)
    base = read_card(tiny_model)
    base = replace(
        base,
        name="ruled",
        instances=replace(base.instances, merge=before),
        path=tmp_path / "ruled.keras",
    )
    shutil.copy(tiny_model, base.path)
    base.write()
    start = load_model(base).get_weights()
    asked = []

    def fit(kinds, prior):
        (pairs,) = kinds
        asked.append(prior)
        assert pairs.measures.shape[1] == len(pairs.one)
        return fitted

    def measure(self, card, examples=None):
        now = self.tuner.get_weights()
        same = all((a == b).all() for a, b in zip(start, now, strict=True))
        found = score if card.instances.merge == fitted else 0.6
        return mixing.Measurement(0.5 if same else found, (0.0, 1.0), 1)

    monkeypatch.setattr(tuning, "fit_merge", fit)
    monkeypatch.setattr(tuning.Tuning, "measure", measure)
    *_, done = events_of(dataset, base.path, cache)
    assert asked == [before]
    assert done.card.instances.merge == (fitted if taken else before)
    assert done.after == max(score, 0.6)
    assert find_model("ruled-2").instances == done.card.instances

    asked.clear()
    *_, done = events_of(dataset, tiny_model, cache)  # which knows the depth alone
    assert asked == []
    assert done.card.instances.merge is None


def test_a_tuning_goes_on_from_what_was_learned_before(
    home, dataset, tiny_model, cache, monkeypatch
):
    from napari_unet_cells.models.catalogue import load_model
    from napari_unet_cells.training import fine_tuning, mixing, tuning

    start = load_model(read_card(tiny_model)).get_weights()

    def measure(self, card, examples=None):
        now = self.tuner.get_weights()
        same = all((a == b).all() for a, b in zip(start, now, strict=True))
        return mixing.Measurement(0.5 if same else 0.6, (0.0, 1.0), 1)

    monkeypatch.setattr(tuning.Tuning, "measure", measure)
    looked: list[int] = []
    adapt = fine_tuning.Tuner.adapt

    def counted(self, batches):
        seen = list(batches)
        looked.append(len(seen))
        adapt(self, seen)

    monkeypatch.setattr(fine_tuning.Tuner, "adapt", counted)
    *_, first = events_of(dataset, tiny_model, cache, steps=3)
    learned = load_model(first.card).get_layer("head").get_weights()
    assert not np.array_equal(learned[0], load_model(read_card(tiny_model)).get_weights()[-2])

    *_, second = events_of(dataset, tiny_model, cache, stop=lambda: True, since=first.card.path)
    assert looked == [tuning.ADAPT_BATCHES, tuning.ADAPT_AGAIN]
    assert second.card.parent == first.card.parent  # its base is that of the first
    for weight, expected in zip(
        load_model(second.card).get_layer("head").get_weights(), learned, strict=True
    ):
        np.testing.assert_array_equal(weight, expected)
    *_, other = events_of(dataset, tiny_model, cache, stop=lambda: True)  # nothing is left of it
    assert not np.array_equal(load_model(other.card).get_layer("head").get_weights()[0], learned[0])
    with pytest.raises(UserError, match="tiny-2 was not made from tiny-3"):
        events_of(dataset, "tiny-3", None, since="tiny-2")


def test_where_the_memory_is_full_it_begins_with_fewer_crops(
    home, dataset, tiny_model, cache, monkeypatch
):
    from napari_unet_cells.training import fine_tuning

    looked: list[int] = []
    learned: list[int] = []
    adapt, step = fine_tuning.Tuner.adapt, fine_tuning.Tuner.step

    def full(self, batches):
        seen = list(batches)
        looked.append(len(seen[0]))
        if looked[-1] > fits:
            raise OutOfMemory
        adapt(self, seen)

    def counted(self, batch, done):
        learned.append(len(batch[0]))
        return step(self, batch, done)

    monkeypatch.setattr(fine_tuning.Tuner, "adapt", full)
    monkeypatch.setattr(fine_tuning.Tuner, "step", counted)
    fits = 1
    events_of(dataset, tiny_model, cache, steps=1)
    assert (looked, learned) == ([4, 2, 1], [1])
    fits = 0
    with pytest.raises(OutOfMemory):
        events_of(dataset, tiny_model, cache, steps=1)


def test_measuring_while_it_learns_can_be_left_out(home, dataset, tiny_model, cache):
    events = events_of(dataset, tiny_model, cache, steps=6)
    assert any(event.score is not None for event in events if isinstance(event, StepDone))
    events = events_of(dataset, tiny_model, cache, steps=6, validations=0)
    assert all(event.score is None for event in events if isinstance(event, StepDone))
    assert events[-1].after is not None


def test_names_count_up_and_nothing_is_replaced(home, dataset, tiny_model, cache):
    events_of(dataset, tiny_model, cache)
    *_, second = events_of(dataset, tiny_model, cache)
    assert second.card.name == "tiny-3"
    *_, third = events_of(dataset, "tiny-3", None, output="mine")
    assert third.card.path == home / "models" / "mine.keras"
    with pytest.raises(UserError, match=r"mine\.keras exists and was kept"):
        events_of(dataset, tiny_model, cache, output="mine")


def test_the_weights_change_and_the_loss_falls(home, dataset):
    from napari_unet_cells.models.catalogue import load_model

    for path in (dataset / "masks").iterdir():  # the base draws them larger: there is much to learn
        mask = tifffile.imread(path)
        alike = ndimage.minimum_filter(mask, 7) == ndimage.maximum_filter(mask, 7)
        tifffile.imwrite(path, mask * alike)
    *events, done = events_of(dataset, "cells-fast", None, steps=30, seed=1)
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    base, tuned = (load_model(find_model(name)) for name in ("cells-fast", done.card.name))
    names = [layer.name for layer in base.layers]
    changed = [name for name in names if not _alike(base.get_layer(name), tuned.get_layer(name))]
    assert "head" in changed
    assert done.mixture > 0
    norms = [name for name in names if name.endswith("_bn")]
    assert set(norms) <= set(changed)  # they take mean and variance from the new images,
    for name in norms:  # and keep what was learned
        (gamma, beta, *_), (*old, _, _) = (m.get_layer(name).get_weights() for m in (tuned, base))
        np.testing.assert_allclose(gamma, old[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(beta, old[1], rtol=1e-4, atol=1e-5)


def _alike(one, other) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)  # averaging rounds


def test_stopped_early_it_keeps_what_it_has(home, dataset, tiny_model, cache):
    asked = iter(range(100))
    events = events_of(dataset, tiny_model, cache, steps=50, stop=lambda: next(asked) >= 3)
    assert sum(isinstance(event, StepDone) for event in events) == 3
    assert isinstance(events[-1], Retrained)


def test_what_was_retrained_is_converted_when_it_is_told(home, dataset, tiny_model, cache, derived):
    from napari_unet_cells.training.retrain import retrain

    told = []
    for event in retrain(dataset, tiny_model, None, RetrainOptions(steps=1), cache=cache):
        told.append(type(event).__name__)
        assert derived == []  # the model is whole, and shown, before seconds are spent on that
    assert isinstance(event, Retrained)
    assert told[-1] == "Retrained"
    assert derived == [event.card.name]


def test_fewer_than_five_images_hold_nothing_back(home, tmp_path, tiny_model, cache):
    *_, done = events_of(make_dataset(tmp_path / "few", 1), tiny_model, cache)
    assert done.before is None
    assert done.after is None
    assert done.verdict == Verdict.UNMEASURED
    assert "No image was held out to measure it on" in describe_outcome(done)
    assert default_model() == DEFAULT_MODEL


def test_a_retraining_never_changes_the_default(home, tmp_path, tiny_model, cache):
    *_, done = events_of(make_dataset(tmp_path / "many", 15), tiny_model, cache)
    assert done.held_out == 3
    for score, interval in (
        (done.before, done.before_interval),
        (done.after, done.after_interval),
    ):
        low, high = interval
        assert 0 <= low <= score <= high <= 1
    assert done.verdict in (Verdict.WORSE, Verdict.TIE, Verdict.BETTER)
    assert default_model() == DEFAULT_MODEL


def test_classes_of_ones_own_start_from_the_encoder(home, tmp_path, tiny_model):
    folder = make_dataset(tmp_path / "strokes", 5)
    records = []
    for path in sorted((folder / "masks").iterdir()):
        cells = tifffile.imread(path)
        strokes = np.full(cells.shape, 255, np.uint8)  # mostly not annotated
        strokes[40:60], strokes[90:110] = cells[40:60] > 0, (cells[90:110] > 0) * 2
        tifffile.imwrite(path, strokes)
        records.append({"name": path.name, "classes": ["background", "nucleus", "other"]})
    (folder / "index.json").write_text(json.dumps(records))
    with pytest.raises(UserError, match=r"holds the classes background, nucleus, other"):
        events_of(folder, tiny_model, None)

    *_, done = events_of(folder, tiny_model, None, start="encoder")

    assert done.card.classes == ("background", "nucleus", "other")
    assert not done.card.makes_cells
    assert done.before is None
    assert 0 <= done.after <= 1


def test_imagenet_without_a_file_says_what_to_do(home, dataset, tiny_model, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.npz"):
        events_of(dataset, tiny_model, None, start=str(tmp_path / "nowhere.npz"))


def test_what_teaches_nothing_is_refused_before_the_first_step(home, tmp_path, tiny_model, cache):
    with pytest.raises(UserError, match="no cell at all"):
        events_of(make_dataset(tmp_path / "empty", 2, value=0), tiny_model, cache)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError):
        events_of(tmp_path / "nothing", tiny_model, cache)
    with pytest.raises(UserError, match="no model 'gone'"):
        events_of(make_dataset(tmp_path / "good", 2), "gone", cache)
    assert not (home / "models").exists()


def test_masks_that_do_not_fit_are_named(home, dataset, tiny_model, cache):
    tifffile.imwrite(dataset / "masks" / "im3.tif", np.ones((10, 10), np.uint16))
    with pytest.raises(UserError, match=r"im3\.tif is 10 x 10 pixels and its image 150 x 140"):
        events_of(dataset, tiny_model, cache)


def test_a_model_deleted_meanwhile_is_a_sentence(home, dataset, tiny_model, tmp_path):
    for ending in (".keras", ".json"):
        shutil.copy(tiny_model.with_suffix(ending), tmp_path / f"other{ending}")
    base = tmp_path / "other.keras"
    find_model(base)
    base.unlink()
    with pytest.raises(UserError, match="There is no model"):
        events_of(dataset, base, None)


@pytest.mark.parametrize("output", ["no/where/m.keras", "sub/name"])
def test_a_bad_output_is_said_at_once(home, dataset, tiny_model, output):
    with pytest.raises(UserError, match=r"Make it|ends in \.keras"):
        events_of(dataset, tiny_model, None, output=output)


def test_a_model_that_could_not_be_described_is_not_made(home, dataset, tiny_model):
    with pytest.raises(UserError, match="its name must be a text of 0 to 200 characters"):
        events_of(dataset, tiny_model, None, output="m" * 201)
    assert not (home / "models").exists()


def test_a_full_disk_at_the_end_is_a_sentence(home, dataset, tiny_model, cache, monkeypatch):
    import os

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"disk of .* is full"):
        events_of(dataset, tiny_model, cache)
    assert not list((home / "models").glob("*.keras"))


def test_events_cross_a_pipe_unchanged(home, dataset, tiny_model, cache):
    for event in events_of(dataset, tiny_model, cache):
        assert event_of_dict(json.loads(json.dumps(event_as_dict(event)))) == event


def test_the_child_retrains_and_can_be_told_to_finish(home, dataset, tiny_model):
    from napari_unet_cells.engine.engine import Engine

    engine, stop, finish = Engine(), threading.Event(), threading.Event()
    try:
        engine.prepare(str(tiny_model), stop)
        pid = engine.pid
        request = {
            "dataset": str(dataset),
            "base": str(tiny_model),
            "output": None,
            "options": {"minutes": 30.0},
        }
        seen = []
        for values in engine.retrain(request, stop, finish):
            seen.append(event_of_dict(values))
            if isinstance(seen[-1], StepDone) and seen[-1].step == 2:
                finish.set()
        assert isinstance(seen[-1], Retrained)
        assert find_model("tiny-2") == seen[-1].card
        assert engine.pid == pid

        bad = request | {"dataset": str(dataset / "nowhere")}
        with pytest.raises(UserError, match="nowhere"):
            list(engine.retrain(bad, stop, finish))
    finally:
        engine.close(5.0)


def test_a_killed_child_is_a_sentence_and_nothing_is_lost(home, dataset, tiny_model):
    import os
    import signal

    from napari_unet_cells.engine.engine import Engine

    engine = Engine()
    request = {"dataset": str(dataset), "base": str(tiny_model), "output": None, "options": {}}

    def train_and_kill() -> None:
        for values in engine.retrain(request, threading.Event(), threading.Event()):
            if values["event"] == "StepDone":
                os.kill(engine.pid, signal.SIGKILL)

    try:
        with pytest.raises(UserError, match="models are as they were"):
            train_and_kill()
    finally:
        engine.close(5.0)
    assert not (home / "models").exists()


def test_touching_cells_count_most_where_only_the_boundary_tells_them_apart(
    home, dataset, tiny_model, cache, encoder_cache, monkeypatch
):
    drawn = []

    class Recorder(Mosaic):
        def __post_init__(self):
            super().__post_init__()
            drawn.append(self.options)

    monkeypatch.setattr("napari_unet_cells.training.tuning.Mosaic", Recorder)
    events_of(dataset, tiny_model, cache)
    assert not read_card(tiny_model).distance
    assert {options.weights for options in drawn} == {(1.0, 1.0, 2.0, 4.0)}
    drawn.clear()
    events_of(dataset, tiny_model, encoder_cache, start="encoder", output="deep")
    assert {options.weights for options in drawn} == {(1.0, 1.0, 1.0, 2.0)}


def test_a_model_with_the_distance_keeps_it(home, dataset, tmp_path):
    from napari_unet_cells.models.architectures import build
    from napari_unet_cells.models.card import ModelCard
    from napari_unet_cells.models.catalogue import load_model, save_model

    classes, alpha = ("background", "cell", "boundary"), {"alpha": 0.25}
    path = tmp_path / "deep.keras"
    base = ModelCard(
        "deep", "mobilenet_unet", classes, 3, 16, 144, "", distance=True, build=alpha, path=path
    )
    save_model(build("mobilenet_unet", 4, 3, **alpha), base)

    *events, done = events_of(dataset, path, None, steps=4)

    assert all(event.loss > 0 for event in events if isinstance(event, StepDone))
    assert done.card.distance
    assert done.card.makes_cells
    assert done.after is not None
    assert load_model(done.card).output_shape[-1] == 4


def test_a_fresh_start_for_cells_learns_the_distance(home, dataset, tiny_model, encoder_cache):
    from napari_unet_cells.models.catalogue import load_model

    assert not read_card(tiny_model).distance
    *_, done = events_of(dataset, tiny_model, encoder_cache, start="encoder")
    assert done.card.distance
    assert load_model(done.card).output_shape[-1] == 4


def test_a_fresh_start_does_not_take_limits_of_another_network(
    home, tmp_path, tiny_model, cache, encoder_cache
):
    few = make_dataset(tmp_path / "few", 1)  # no image is held out, so nothing is fitted
    card = read_card(tiny_model)
    replace(card, instances=InstanceOptions(min_probability=0.7, cell_threshold=0.7)).write()
    *_, fresh = events_of(few, tiny_model, encoder_cache, start="encoder")
    assert fresh.card.instances == InstanceOptions()
    *_, tuned = events_of(few, tiny_model, cache)
    assert tuned.card.instances.min_probability == 0.7


def test_options_that_cannot_be_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The option steps must be at least 1, and is 0"):
        events_of(tmp_path / "nowhere", DEFAULT_MODEL, None, steps=0)


def _two_sizes(seed: int):
    return simulate_nuclei((200, 190), seed=seed, diameter=14 if seed % 2 else 70)


def _two_modalities(seed: int):
    image, truth = simulate_nuclei((150, 140), seed=seed)
    return (image.max() - image if seed % 2 else image), truth


def _one_cell(seed: int):
    image, truth = simulate_nuclei((150, 140), seed=seed)
    return image, (truth == truth[truth > 0].min()) * 1


def _grey_and_colour(seed: int):
    image, truth = simulate_nuclei((150, 140), seed=seed)
    grey = (image / image.max() * 255).astype(np.uint8)
    return (np.stack([grey] * 3, axis=2) // [1, 2, 3] if seed % 2 else grey), truth


def _saturated(seed: int):
    image, truth = simulate_nuclei((150, 140), seed=seed)
    return (image.astype(float) / np.percentile(image, 60) * 2**16).clip(0, 65535), truth


def _one_id(seed: int):
    image, truth = simulate_nuclei((150, 140), seed=seed)
    return image, (truth > 0) * 255


def _empty_beside_full(seed: int):
    image, truth = simulate_nuclei((150, 140), seed=seed)
    return image, truth * (seed == 0)


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (_two_sizes, 4),
        (_two_modalities, 4),
        (_one_cell, 1),
        (_grey_and_colour, 4),
        (_saturated, 2),
        (_one_id, 2),
        (_empty_beside_full, 3),
    ],
)
def test_odd_data_become_a_model_that_sees_cells_at_their_scale(
    home, tmp_path, tiny_model, small_cache, make, n, monkeypatch, base_that_knows
):
    from napari_unet_cells.models.catalogue import load_model

    drawn = []

    class Recorder(Mosaic):
        def __post_init__(self):
            super().__post_init__()
            drawn.append(self)

    base = replace(
        read_card(tiny_model), diameter_window=(18.0, 36.0), path=tmp_path / "scaled.keras"
    )
    shutil.copy(tiny_model, base.path)
    base.write()
    folder = make_dataset(tmp_path / "odd", 0)
    for seed in range(n):
        image, truth = make(seed)
        dtype = np.uint16 if image.max() > 255 else np.uint8
        tifffile.imwrite(folder / "images" / f"{seed}.tif", image.astype(dtype))
        tifffile.imwrite(folder / "masks" / f"{seed}.tif", truth.astype(np.uint16))
    monkeypatch.setattr("napari_unet_cells.training.tuning.Mosaic", Recorder)

    *events, done = events_of(folder, base.path, small_cache, steps=2, batch=1)

    assert all(np.isfinite(event.loss) for event in events if isinstance(event, StepDone))
    assert all(np.isfinite(weight).all() for weight in load_model(done.card).get_weights())
    for plane in drawn[0].planes:
        if plane.diameter:
            assert 14 < plane.diameter * plane.zoom < 45
        assert np.ptp(plane.image) > 100  # of 255: neither dark nor all white
    images, _, weights = drawn[0].batch(4, (0,))
    assert images.shape == (4, 256, 256, base.channels)
    assert weights.any()


@pytest.mark.parametrize(
    ("widths", "tiles"), [([9.0], 3), ([92.0, 92.0, 400.0], 2), ([184.0], 1), ([1024.0], 1)]
)
def test_crops_are_as_large_as_the_regions_at_the_scale_of_the_network(widths, tiles):
    from napari_unet_cells.training.tuning import tiles_for

    assert tiles_for(widths) == tiles
