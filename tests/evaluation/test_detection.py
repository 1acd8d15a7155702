"""Detection measures, against scikit-learn and a plain sweep over all thresholds."""

import json

import numpy as np
import pytest
from scipy import ndimage

from anojax.errors import DataError
from anojax.evaluation.detection import MEASURES, evaluate
from anojax.evaluation.ranking import PixelScores, rank


def slow_aupro(maps, masks, limit=0.3):
    """The definition, one threshold at a time."""
    regions = []
    for i, mask in enumerate(masks):
        labeled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(i, labeled == k + 1) for k in range(count)]
    background = np.concatenate([m[~t] for m, t in zip(maps, masks, strict=True)])
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        fpr.append(np.mean(background >= threshold))
        pro.append(np.mean([np.mean(maps[i][r] >= threshold) for i, r in regions]))
    fpr, pro = np.array(fpr), np.array(pro)
    inside = fpr <= limit
    # Several points may share one rate: the last of them is where the curve goes on.
    x = np.append(fpr[inside], limit)
    y0, y1 = pro[inside][-1], pro[~inside][0] if (~inside).any() else 1.0
    x0, x1 = fpr[inside][-1], fpr[~inside][0] if (~inside).any() else 1.0
    y = np.append(pro[inside], y0 + (y1 - y0) * (limit - x0) / (x1 - x0))
    return np.trapezoid(y, x) / limit


def random_maps(seed, levels, count=6, shape=(17, 23)):
    """Blobs with scores that rise on them; `levels` distinct values make ties."""
    draw = np.random.default_rng(seed)
    masks = [
        ndimage.gaussian_filter(draw.normal(size=shape), 1.5) > 0.25
        for _ in range(count)
    ]
    maps = [draw.normal(size=shape) + 0.8 * mask for mask in masks]
    maps = [(np.round(m * levels) / levels).astype(np.float32) for m in maps]
    return maps, masks


def stored(maps, masks, **settings):
    pixels = PixelScores(**settings)
    for one, mask in zip(maps, masks, strict=True):
        pixels.add(one, mask)
    return pixels


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(seed, levels):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    maps, masks = random_maps(seed, levels)
    scores, truth = np.concatenate([m.ravel() for m in maps]), np.ravel(masks)
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    for ours in (rank(scores, truth), stored(maps, masks).rank()):
        assert ours.auroc == pytest.approx(metrics.roc_auc_score(truth, scores))
        assert ours.ap == pytest.approx(metrics.average_precision_score(truth, scores))
        assert ours.aupr == pytest.approx(metrics.auc(recall, precision))
        assert ours.f1_max == pytest.approx(f1.max())


@pytest.mark.parametrize("levels", [1, 4, 1000])
@pytest.mark.parametrize("limit", [0.05, 0.3, 0.99])
def test_aupro_of_the_definition(levels, limit):
    maps, masks = random_maps(2, levels, count=3, shape=(11, 13))
    ours = stored(maps, masks).rank(fpr_limit=limit).aupro
    assert ours == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-9)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_small_blocks_change_nothing(levels):
    maps, masks = random_maps(3, levels)
    maps = [m - 0.7 for m in maps]  # scores of both signs in every range
    whole, chopped = (stored(maps, masks, block_px=px).rank() for px in (1 << 21, 40))
    for name in ("auroc", "ap", "aupr", "f1_max", "aupro"):
        assert getattr(chopped, name) == pytest.approx(getattr(whole, name), abs=1e-12)


def test_many_scores_in_one_narrow_range():
    """All scores within one of the 65,536 ranges, more of them than a block holds."""
    draw = np.random.default_rng(0)
    mask = draw.random((40, 40)) < 0.3
    near = np.nextafter(np.float32(0.5), np.float32(1)) - np.float32(0.5)
    maps = [(0.5 + near * draw.integers(0, 999, (40, 40))).astype(np.float32)] * 3
    pixels = stored(maps, [mask] * 3, block_px=100)
    expected = rank(np.ravel(maps), np.ravel([mask] * 3))
    assert pixels.rank().auroc == pytest.approx(expected.auroc, abs=1e-12)
    assert pixels.rank().ap == pytest.approx(expected.ap, abs=1e-12)


def test_some_of_the_images():
    maps, masks = random_maps(4, 5)
    pixels = stored(maps, masks)
    alone = stored(maps[2:4], masks[2:4]).rank()
    assert pixels.rank([2, 3]) == alone
    assert pixels.rank([3, 2]).aupro == pytest.approx(alone.aupro)


def test_rank_invariance():
    maps, masks = random_maps(5, 50)
    plain = stored(maps, masks).rank()
    bent = stored([np.exp(3 * m.astype(np.float64)) for m in maps], masks).rank()
    assert plain.aupro == pytest.approx(bent.aupro) and plain.ap == bent.ap


@pytest.mark.parametrize(
    ("scores", "auroc", "ap"),
    [([0, 1, 2, 3], 1, 1), ([3, 2, 1, 0], 0, 5 / 12), ([7, 7, 7, 7], 0.5, 0.5)],
)
def test_perfect_inverted_constant(scores, auroc, ap):
    ranking = rank(scores, [False, False, True, True])
    assert (ranking.auroc, ranking.ap) == pytest.approx((auroc, ap))


def test_aupro_closed_forms():
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    perfect = stored([mask.astype(np.float32)], [mask]).rank()
    assert (perfect.aupro, perfect.f1_max) == (1, 1)
    constant = stored([np.zeros((20, 20))], [mask]).rank()
    assert constant.aupro == pytest.approx(0.15)
    # Of a region of 1 and one of 100 pixels only the small one is found: the curve
    # starts at one half, and the tied rest leads it straight to (1, 1).
    mask = np.zeros((30, 30), bool)
    mask[2, 2] = mask[10:20, 10:20] = True
    found = np.zeros((30, 30))
    found[2, 2] = 1
    half = stored([found], [mask]).rank()
    assert half.aupro == pytest.approx(0.5 + 0.5 * 0.15)
    assert np.interp(0.0, *_increasing(half.curve)) == pytest.approx(0.5)


def _increasing(curve):
    last = np.append(np.diff(curve.false_positive_rate) > 0, True)
    return curve.false_positive_rate[last], curve.overlap[last]


def test_diagonal_neighbors_are_one_region():
    mask = np.eye(6, dtype=bool)
    found = np.zeros((6, 6))
    found[0, 0] = 1  # one of the six pixels, of one region
    curve = stored([found], [mask]).rank().curve
    assert curve.overlap[1] == pytest.approx(1 / 6)


def test_infinite_and_signed_zero_scores():
    scores = np.array([[np.inf, 0.0, -0.0, -np.inf, -1.0, 1.0]], np.float32)
    mask = np.array([[1, 1, 0, 0, 0, 1]], bool)
    assert (
        stored([scores], [mask]).rank().auroc == rank([5, 3, 3, 1, 2, 4], mask[0]).auroc
    )


def test_nan_scores_are_an_error():
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        rank([0.0, float("nan")], [False, True])
    with pytest.raises(DataError, match="3 of 4 scores are NaN"):
        broken = np.array([[0, np.nan], [np.nan, np.nan]])
        PixelScores().add(broken, np.zeros((2, 2), bool))


def case(labels=(0, 0, 1, 1, 1), groups=("good", "good", "crack", "hole", "crack")):
    maps, masks = random_maps(6, 20, count=5)
    masks = [m & bool(label) for m, label in zip(masks, labels, strict=True)]
    scores = [m.max() for m in maps]
    return maps, [m.astype(np.uint8) for m in masks], scores, labels, groups


def test_rows_per_defect_type():
    maps, masks, scores, labels, groups = case()
    result = evaluate(iter(maps), iter(masks), scores, labels, groups)
    assert [r.name for r in result.rows] == ["all", "crack", "hole"]
    assert [(r.normal, r.anomalous) for r in result.rows] == [(2, 3), (2, 2), (2, 1)]
    alone = [0, 1, 3]
    hole = evaluate(
        *([x[i] for i in alone] for x in (maps, masks, scores, labels, groups))
    )
    assert result.rows[2].measures == pytest.approx(hole.rows[0].measures)
    assert set(result.rows[0].measures) == set(MEASURES)
    assert result["image_auroc"] == result.rows[0].measures["image_auroc"]
    assert result.notes == ()
    plain = json.loads(result.to_json())
    assert plain["rows"][0]["aupro"] == result["aupro"]


def test_maps_with_a_channel_axis():
    maps, masks, *rest = case()
    flat = evaluate(maps, masks, *rest)
    deep = evaluate([m[..., None] for m in maps], [m[..., None] for m in masks], *rest)
    mixed = evaluate(maps, [m[..., None] for m in masks], *rest)
    assert flat == deep == mixed


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_only(label):
    maps, masks, scores, labels, groups = case((label,) * 5)
    result = evaluate(maps, masks, scores, labels, groups)
    image = [v for k, v in result.rows[0].measures.items() if k.startswith("image")]
    assert np.isnan(image).all()
    lacking = "no normal image" if label else "no anomalous image"
    assert any("image measures" in n and lacking in n for n in result.notes)
    plain = json.loads(result.to_json())
    assert plain["rows"][0]["image_auroc"] is None
    if label == 0:
        assert np.isnan(result["aupro"])
        assert "all: pixel measures are undefined, there is no anomalous pixel" in (
            result.notes
        )


def test_everything_is_a_defect():
    maps, *_ = case()
    masks = [np.ones((17, 23)) for _ in maps]
    result = evaluate(maps, masks, [0.0] * 5, [1] * 5, ["x"] * 5)
    assert all(np.isnan(value) for value in result.rows[0].measures.values())
    assert "all: pixel measures are undefined, there is no normal pixel" in result.notes


def test_without_maps():
    _, _, *rest = case()
    result = evaluate(None, None, *rest)
    assert np.isnan(result["aupro"]) and not np.isnan(result["image_auroc"])
    assert result.notes == (
        "pixel measures are undefined: there are no maps with masks",
    )


def test_constant_maps():
    maps, masks, _, labels, groups = case()
    maps = [np.full_like(m, 0.3) for m in maps]
    result = evaluate(maps, masks, [1.0] * 5, labels, groups)
    for row in result.rows:
        assert row.measures["image_auroc"] == row.measures["pixel_auroc"] == 0.5
        assert row.measures["aupro"] == pytest.approx(0.15)


def test_an_anomalous_image_without_marks_is_noted():
    maps, masks, *rest = case()
    masks[3] = 0 * masks[3]
    notes = evaluate(maps, masks, *rest).notes
    assert "1 anomalous images have an empty mask" in notes
    assert "hole: pixel measures are undefined, there is no anomalous pixel" in notes


def test_what_does_not_fit():
    maps, masks, scores, labels, groups = case()
    with pytest.raises(DataError, match="4 scores, 5 labels and 5 groups"):
        evaluate(maps, masks, scores[:4], labels, groups)
    with pytest.raises(DataError, match="no images"):
        evaluate([], [], [], [], [])
    with pytest.raises(DataError, match="label 2; expected 0"):
        evaluate(maps, masks, scores, (0, 0, 1, 1, 2), groups)
    with pytest.raises(DataError, match=r"the map is \(17, 22\), its mask \(17, 23\)"):
        evaluate([m[:, 1:] for m in maps], masks, scores, labels, groups)
    with pytest.raises(DataError, match="image 2: the mask has the value 255"):
        evaluate(maps, [255 * m for m in masks], scores, labels, groups)
    with pytest.raises(DataError, match="image 0 is labeled normal, but its mask"):
        evaluate(maps, masks[::-1], scores, labels, groups)
    with pytest.raises(DataError, match="fpr_limit is 0"):
        evaluate(maps, masks, scores, labels, groups, fpr_limit=0)
