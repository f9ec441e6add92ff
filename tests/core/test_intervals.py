"""Bootstrap intervals of scores; those of whole benchmarks are tested in `test_accuracy.py`."""

from __future__ import annotations

import pytest

from napari_unet_cells.core.intervals import ap50_interval, mean_iou_interval
from napari_unet_cells.core.metrics import (
    THRESHOLDS,
    ClassScore,
    ImageScore,
    summarize,
    summarize_classes,
)
from napari_unet_cells.errors import UserError


def image(n_true: int, n_predicted: int, tp: int) -> ImageScore:
    return ImageScore(n_true, n_predicted, (tp,) * len(THRESHOLDS), 0.0, 0, 0, 0)


def test_ap50_lies_within_its_interval_and_alike_images_leave_it_narrow():
    alike = [image(20, 20, 15)] * 4
    assert ap50_interval(alike) == pytest.approx((0.6, 0.6))
    assert summarize(alike).ap50 == pytest.approx(0.6)
    different = [image(20, 20, tp) for tp in (4, 12, 16, 20)]
    low, high = ap50_interval(different)
    assert low < summarize(different).ap50 < high
    assert high - low > 0.3
    assert ap50_interval([image(0, 0, 0)]) == (1.0, 1.0)


def test_mean_iou_leaves_out_classes_that_do_not_occur():
    def classes(both: int) -> ClassScore:
        return ClassScore(("a", "b", "c"), (both, both, 0), (100, 100, 0), (100, 100, 0))

    one = [classes(50)]
    assert mean_iou_interval(one) == pytest.approx((summarize_classes(one).mean_iou,) * 2)
    several = [classes(both) for both in (10, 50, 90)]
    low, high = mean_iou_interval(several)
    assert low < summarize_classes(several).mean_iou < high


def test_nothing_has_no_interval():
    with pytest.raises(UserError, match="no image was scored"):
        ap50_interval([])
