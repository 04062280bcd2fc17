"""A reproduction.json's content of seven nets and three seeds, every figure in it made up."""

import base64
import io
import math

import numpy as np
from PIL import Image

LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "B-5x5": 8, "C": 16, "D": 16, "E": 19}
STAGES = {
    **dict.fromkeys(("A", "A-LRN", "B", "B-5x5"), ("s256",)),
    **dict.fromkeys(("C", "E"), ("s256", "s384", "jitter")),
    "D": ("s256", "s384", "jitter", "jitter_fc"),
}
STEPS = {"s256": 6000, "s384": 1500, "jitter": 2000, "jitter_fc": 2000}
SCALES = {"s256": [37, 37], "s384": [55, 55], "jitter": [37, 74], "jitter_fc": [37, 74]}
HOSTILE = '<script>window.owned = "name"</script>'
HOSTILE_ATTRIBUTE = '"><img src=x onerror="window.owned = 1">'


def fabricated():
    """The whole content, as experiments/reproduce.py would make it."""
    rng = np.random.default_rng(0)
    errors = {(a, s): 62 - LAYERS[a] / 3 - 2 * i for a, stages in STAGES.items() for i, s in enumerate(stages)}
    return {
        "title": "VGG in small: a fabricated reproduction",
        "setting": {
            **{"dataset": "caltech101", "split": "test", "num_images": 1819, "crop_size": 32, "smallest_scale": 37},
            **{"width_multiplier": 0.125, "seeds": [0, 1, 2], "date": "2026-11-24", "device": "2 CPU cores"},
            **{"versions": {"python": "3.11.2", "jax": "0.10.2", "flax": "0.12.8"}, "commit": "0123456789abcdef"},
        },
        "tables": [table_3(errors), table_6()],
        "claims": claims(),
        "depth": [
            {"arch": arch, "layers": LAYERS[arch], "stage": stage, "error": e, "low": e - 0.8, "high": e + 1.1}
            for (arch, stage), e in errors.items()
        ],
        "scales": [
            {"arch": arch, "stage": stage, "train_scale": SCALES[stage], "test_scale": q, "num_seeds": 3}
            | {"error": e + (q - sum(SCALES[stage]) / 2) ** 2 / 90}
            for (arch, stage), e in errors.items()
            for q in (32, 37, 42, 50, 55, 60, 74)
        ],
        "curves": [
            curve(rng, arch, seed, stage, e) for (arch, stage), e in errors.items() for seed in (0, 1, 2)
        ],
        "photographs": [photograph(HOSTILE, HOSTILE_ATTRIBUTE, 3, 2), photograph("upright", "faces", 2, 3)],
    }  # fmt: skip


def table_3(errors):
    paper = [29.6, 29.7, 28.7, None, 28.1, 28.1, 27.3, 27.0, 26.8, 25.6, None, 27.3, 26.9, 25.5]
    names = ["net", "train (S)", "test (Q)", "top-1 error (%)", "paper: top-1 error (%)"]
    kinds = ["text", "text", "text", "number", "number"]
    rows = [
        [arch, "[37;74]" if "jitter" in stage else str(SCALES[stage][0]), "37", None if arch == "A-LRN" else e, p]
        for ((arch, stage), e), p in zip(errors.items(), paper)
    ]
    return {
        **{"id": "table3", "caption": "Table 3: one test scale", "rows": rows, "archs": [[row[0]] for row in rows]},
        **{"columns": [{"name": n, "kind": k} for n, k in zip(names, kinds)], "notes": ["Means of 3 seeds."]},
    }


def table_6():
    columns = [{"name": "members", "kind": "text"}, {"name": "top-1 error (%)", "kind": "number"}]
    submission = "(D/256/224,256,288), (D/384/352,384,416), (D/[256;512]/256,384,512), (C/256/224,256,288), " * 2
    rows = [[submission, 44.3], ["D & E, multi-crop & dense", 44.25], ["other | people's *net*", None]]
    return {
        **{"id": "table6", "caption": "Table 6: fusion", "columns": columns, "rows": rows, "notes": []},
        "archs": [["C", "D", "E"], ["D", "E"], []],
    }


def claims():
    texts = [
        ("4.1", "Local response normalisation does not help: A-LRN is no better than A.", "holds", 0.42, 0.61, 0.1),
        ("4.1", "The error falls with depth, from A to E.", "holds", 3.1, 0.58, 2.3),
        ("4.1", "Jitter in training beats a fixed scale, D.", "does not hold", -1.27, 0.73, 1.2),
        ("4.4", "Two nets fused beat the best of them.", "not run", None, None, 0.8),
    ]
    names = ("section", "text", "verdict", "difference", "standard_error", "paper_difference")
    details = "A 59.87, A-LRN 60.29; 3 seeds, paired by image."
    return [{"id": f"claim{i}", **dict(zip(names, values)), "details": details} for i, values in enumerate(texts)]


def curve(rng, arch, seed, stage, error):
    step = list(range(10, STEPS[stage] + 1, 10))
    val_step = list(range(500, STEPS[stage] + 1, 500))
    first = stage == "s256"

    def falling(steps, top, bottom, noise):
        return [bottom + (top - bottom) * math.exp(-s / 1200) * first + noise * rng.normal() for s in steps]

    return {
        **{"arch": arch, "seed": seed, "stage": stage, "step": step, "val_step": val_step},
        **{"train_loss": falling(step, 4.6, 1.5, 0.15), "train_top1_error": falling(step, 97, 45, 4)},
        **{"val_loss": falling(val_step, 4.5, 2.4, 0.03), "val_top1_error": falling(val_step, 95, error, 0.5)},
    }


def photograph(name, shown_class, columns, rows):
    width, height = 32 * columns + 10, 32 * rows + 10
    y, x = np.mgrid[: 3 * height, : 3 * width]
    pixels = np.stack([255 * x / x.max(), 255 * y / y.max(), 128 + 60 * np.sin(x / 9)], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    offsets = [[round(i * (side - 32) / 4) for i in range(5)] for side in (height, width)]
    return {
        **{"name": name, "credit": "drawn for a test", "width": width, "height": height, "shown_class": shown_class},
        "image": f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}",
        "top_classes": [{"class": shown_class, "posterior": 0.41}, {"class": "faces_easy", "posterior": 0.2}],
        "score_map": [[0.1 + 0.3 * i + 0.05 * j for j in range(columns)] for i in range(rows)],
        **{"window": 32, "stride": 32},
        "crops": [{"top": t, "left": l, "posterior": (t + l) / 300} for t in offsets[0] for l in offsets[1]],
    }
