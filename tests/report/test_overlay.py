from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from scripts.core.errors import CineError
from scripts.measures.function import cardiac_function
from scripts.report import overlay
from scripts.report.overlay import heart_window, overlay_figure, save_overlay, shown_phases, shown_slices

SPACING_MM = (2.0, 4.0, 10.0)


@pytest.fixture
def labels_THWD() -> np.ndarray:
    """Six frames of a square heart that gets narrower to the apex; its LV is largest in frame 1, smallest in 4."""
    labels = np.zeros((6, 64, 40, 7), np.uint8)
    for t, radius in enumerate((6, 5, 4, 3, 4, 5)):
        for d in range(1, 6):
            r = max(1, radius - d // 3)
            labels[t, 16:28, 14:26, d] = 1
            labels[t, 40 - r - 2 : 40 + r + 2, 20 - r - 2 : 20 + r + 2, d] = 2
            labels[t, 40 - r : 40 + r, 20 - r : 20 + r, d] = 3
    return labels


def draw(labels_THWD: np.ndarray, image_THWD: np.ndarray | None = None):
    function = cardiac_function(labels_THWD, SPACING_MM)
    image_THWD = np.full(labels_THWD.shape, 50.0) if image_THWD is None else image_THWD
    return overlay_figure(dict(enumerate(image_THWD)), labels_THWD, SPACING_MM, function, "exam")


def test_cine_has_three_slices_at_four_phases_and_a_curve(labels_THWD):
    figure = draw(labels_THWD)
    assert len(figure.axes) == 3 * 4 + 1
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["ED (frame 1)", "systole (frame 2)", "ES (frame 4)", "diastole (frame 5)"]
    rows = [axes.get_ylabel() for axes in figure.axes[:12:4]]
    assert rows == ["base\nslice 3 of 7", "middle\nslice 4 of 7", "apex\nslice 5 of 7"]


def test_single_frame_has_three_panels_and_no_curve(labels_THWD):
    figure = draw(labels_THWD[:1])
    assert [axes.get_title().split()[0] for axes in figure.axes] == ["base", "middle", "apex"]
    lv_ml = np.count_nonzero(labels_THWD[0] == 3) * 0.08
    assert f"LV {lv_ml:.0f} ml" in figure.get_suptitle()


def test_rv_is_red_myo_blue_and_lv_yellow_at_their_positions(labels_THWD, pixels):
    figure = draw(labels_THWD)
    picture = pixels(figure)
    top, left = (window.start for window in heart_window(labels_THWD, SPACING_MM))
    shown = labels_THWD[0, :, :, 2]

    def colour(x: float, y: float) -> np.ndarray:
        column, row = figure.axes[0].transData.transform((x - top, y - left))
        return picture[len(picture) - 1 - round(row), round(column)]

    places = {label: np.argwhere(shown == label) for label in (1, 2, 3)}
    red, green, blue = colour(*places[1].mean(axis=0))
    assert red > green + 40
    assert red > blue + 40
    red, green, blue = colour(*(places[2][0] + (1, 1)))
    assert blue > red + 40
    red, green, blue = colour(*places[3].mean(axis=0))
    assert red > blue + 40
    assert green > blue + 40


def test_panels_keep_the_anatomical_aspect(labels_THWD):
    axes = draw(labels_THWD).axes[0]
    assert axes.get_aspect() == 2.0  # a voxel is 2 mm wide and 4 mm high
    width, height = (abs(b - a) for a, b in (axes.get_xlim(), axes.get_ylim()))
    rows, columns = heart_window(labels_THWD, SPACING_MM)
    assert (width, height) == (rows.stop - rows.start, columns.stop - columns.start)


def test_curve_shows_hand_counted_ml_and_marks_ed_and_es(labels_THWD):
    lines = {line.get_gid(): line for line in draw(labels_THWD).axes[-1].lines}
    voxel_ml = 2 * 4 * 10 / 1000
    # slices 1 and 2 have the whole radius, 3 to 5 one voxel less
    by_hand = [(2 * (2 * r) ** 2 + 3 * (2 * r - 2) ** 2) * voxel_ml for r in (6, 5, 4, 3, 4, 5)]
    assert lines["LV"].get_ydata() == pytest.approx(by_hand)
    assert lines["RV"].get_ydata() == pytest.approx([5 * np.count_nonzero(labels_THWD[0, ..., 1] == 1) * voxel_ml] * 6)
    assert (lines["ED"].get_xdata()[0], lines["ES"].get_xdata()[0]) == (1, 4)


def test_stack_without_labels_is_shown_whole(labels_THWD):
    empty = np.zeros_like(labels_THWD)
    assert shown_slices(empty) == [("base", 0), ("middle", 3), ("apex", 6)]
    assert heart_window(empty, SPACING_MM) == (slice(0, 64), slice(0, 40))
    figure = draw(empty)
    assert len(figure.axes) == 13
    assert "EF – %" in figure.get_suptitle()  # noqa: RUF001


def test_base_is_the_wide_end_also_for_reversed_slices(labels_THWD):
    assert shown_slices(labels_THWD) == [("base", 2), ("middle", 3), ("apex", 4)]
    assert shown_slices(labels_THWD[..., ::-1]) == [("base", 4), ("middle", 3), ("apex", 2)]


def test_each_of_few_slices_is_shown_once(labels_THWD):
    assert shown_slices(labels_THWD[..., 1:2]) == [("middle", 0)]
    assert shown_slices(labels_THWD[..., 2:4]) == [("base", 0), ("apex", 1)]


@pytest.mark.parametrize(
    ("frames", "ed", "es", "shown"),
    [
        (12, 4, 10, [3, 6, 9, 0]),
        (30, 1, 12, [0, 5, 11, 20]),
        (10, 9, 3, [8, 0, 2, 5]),  # the cine is a loop
        (2, 1, 2, [0, 1]),
        (3, 1, 2, [0, 1, 2]),
        (1, None, None, [0]),
        (20, None, None, [0, 5, 10, 15]),
        (3, None, None, [0, 1, 2]),
    ],
)
def test_phases_are_evenly_spread_from_ed_through_es(frames, ed, es, shown):
    assert [t for _, t in shown_phases(frames, ed, es)] == shown


def test_the_window_contains_every_label_with_a_margin(labels_THWD):
    rows, columns = heart_window(labels_THWD, SPACING_MM)
    assert rows.start <= 16 - 15 / 2
    assert rows.stop >= 48 + 15 / 2
    assert columns.start <= 12 - 15 / 4
    assert columns.stop >= 28 + 15 / 4
    assert columns.stop - columns.start < 40  # cropped


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 256, 1), (8, 8, 1)])
@pytest.mark.parametrize("label", [0, 3])
def test_tiny_and_full_volumes_can_be_drawn(size, label, pixels):
    assert pixels(draw(np.full((2, *size), label, np.uint8))).std() > 0


def test_image_labels_and_function_of_different_exams_are_refused(labels_THWD):
    with pytest.raises(CineError, match="from one exam"):
        draw(labels_THWD, np.zeros((6, 64, 40, 8)))
    function = cardiac_function(labels_THWD[:3], SPACING_MM)
    with pytest.raises(CineError, match="from one exam"):
        overlay_figure(dict(enumerate(labels_THWD)), labels_THWD, SPACING_MM, function, "exam")


def test_the_saved_overlay_reorders_image_and_labels_in_the_same_way(tmp_path, labels_THWD, monkeypatch):
    seen = {}
    drawn = overlay_figure
    monkeypatch.setattr(overlay, "overlay_figure", lambda *args: seen.update(args=args) or drawn(*args))
    # stored as D, W, H with H running to the right: the working order must permute and flip
    stored_TDWH = labels_THWD.transpose(0, 3, 2, 1)[..., ::-1]
    affine = np.array([[0, 0, 2.0, 0], [0, -4.0, 0, 0], [10.0, 0, 0, 0], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.moveaxis(stored_TDWH * np.float32(10), 0, -1), affine)
    image.header.set_zooms((10.0, 4.0, 2.0, 1.0))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "exam.nii.gz")
    save_overlay({"source": str(tmp_path / "exam.nii.gz"), "pred": stored_TDWH}, tmp_path / "out" / "exam.png")

    images, ordered_THWD, spacing_mm, function, title = seen["args"]
    assert sorted(images) == [0, 1, 3, 4]
    assert all(np.array_equal(image_HWD, 10.0 * ordered_THWD[t]) for t, image_HWD in images.items())
    assert np.array_equal(ordered_THWD.sum(axis=(1, 2, 3)), labels_THWD.sum(axis=(1, 2, 3)))
    assert np.array_equal(ordered_THWD[..., 0:7], labels_THWD) or np.array_equal(ordered_THWD[..., ::-1], labels_THWD)
    assert spacing_mm == pytest.approx(SPACING_MM)
    assert function["volumes_ml"]["LV"][0] == pytest.approx(np.count_nonzero(labels_THWD[0] == 3) * 0.08)
    assert title == "exam"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["exam.png"]
    assert imread(tmp_path / "out" / "exam.png")[..., :3].std() > 0.05


def test_labels_of_another_shape_are_refused(tmp_path, labels_THWD):
    nib.save(nib.Nifti1Image(labels_THWD[0].astype(np.float32), np.diag([-2.0, -4, 10, 1])), tmp_path / "exam.nii.gz")
    item = {"source": tmp_path / "exam.nii.gz", "pred": labels_THWD}
    with pytest.raises(CineError, match=r"exam\.nii\.gz.*labels of shape"):
        save_overlay(item, tmp_path / "exam.png")
    assert not (tmp_path / "exam.png").exists()
