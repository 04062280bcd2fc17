import pytest
from reproduction_results import evaluated

from vgg_jax.reproduction.manifest import SUBMISSION, TABLES, protocol, protocols
from vgg_jax.reproduction.networks import parameter_count, table_1, table_2
from vgg_jax.reproduction.tables import cell_text, error_table, table_markdown

A = protocol("A/256/256")
D_JITTER = protocol("D/[256;512]/384")
SMALL = {"train_scale": [37, 37], "test_scales": [37]}

# Closed form: weights and biases of net A at full size, layer by layer.
A_COUNT = sum(9 * i * o + o for i, o in [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 3])
A_COUNT += (7 * 7 * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 1000


def column(table, name):
    index = [c["name"] for c in table["columns"]].index(name)
    return [row[index] for row in table["rows"]]


def names(table):
    return [c["name"] for c in table["columns"]]


def test_without_results_a_table_has_the_papers_figures_and_not_run():
    table = error_table("3", {})
    assert names(table) == [
        *(
            "net",
            "S, paper",
            "Q, paper",
            "top-1 val., paper",
            "top-1, here",
            "top-5 val., paper",
            "top-5, here",
            "seeds",
        ),
    ]
    assert table["rows"][0] == ["A", "256", "256", 29.6, None, 10.4, None, None]
    assert table["rows"][-1] == ["E", "[256;512]", "384", 25.5, None, 8.0, None, None]
    assert table["archs"][1] == ["A-LRN"]
    text = table_markdown(table)
    assert "| E     | [256;512] | 384      | 25.5              | not run     | 8.0               | not run" in text
    assert text.startswith("### Table 3: ConvNet performance at a single test scale; errors in %\n\n| net")


def test_our_figure_beside_the_papers_with_its_protocol():
    table = error_table("3", {(A, 0): evaluated(A, top1=598, top5=363, **SMALL)})
    assert table["rows"][0] == ["A", "256", "256", "37", "37", 29.6, 59.8, 10.4, 36.3, "0"]
    assert names(table)[3:5] == ["S here", "Q here"]
    (note, exactness) = table["notes"]
    assert note == (
        "Here: caltech101, test split, 1000 images; averaged with the mirror image; pooling rounds down; best "
        "checkpoint. The paper's figures: ILSVRC-2012, 50,000 validation images, crops of 224."
    )
    assert "standard error of 1.6 points" in exactness  # sqrt(0.598 * 0.402 / 1000)


def test_seeds_are_averaged_with_their_standard_deviation():
    """Top-1 60, 62, 67: mean 63, standard deviation sqrt((9 + 1 + 16) / 2)."""
    made = {(A, seed): evaluated(A, seed, top1=count) for seed, count in enumerate((600, 620, 670))}
    table = error_table("3", made)
    assert column(table, "top-1, here")[0] == pytest.approx(63.0)
    assert column(table, "± top-1")[:2] == [f"{13**0.5:.1f}", None]
    assert column(table, "seeds")[0] == "0, 1, 2"
    assert "± their standard deviation" in table["notes"][-1]


def test_same_scales_are_not_repeated():
    assert "S here" not in names(error_table("3", {(A, 0): evaluated(A)}))


def test_methods_and_crops_are_told():
    row = TABLES["5"][2].protocol
    table = error_table("5", {(row, 0): evaluated(row)})
    assert column(table, "method")[:3] == ["dense", "multi-crop", "multi-crop & dense"]
    assert "multi-crop: 5x5 crops a scale" in table["notes"][0]


def test_fusions_name_their_members():
    row = TABLES["6"][0].protocol
    members = [
        {"arch": n.arch, "stage": n.stage, "train_scale": [37, 74], "test_scales": [37, 56, 74]} for n in row.nets
    ]
    table = error_table("6", {(row, 0): evaluated(row, members=members)})
    first = table["rows"][0]
    assert first[0] == ", ".join(f"({net})" for net in SUBMISSION.split())
    assert first[1].split(", (")[2] == "D/[37;74]fc/37,56,74)"
    assert table["archs"][0] == ["D", "C", "E"]
    assert column(table, "top-5 test, paper") == [7.3, 7.0, None, 6.8]


def test_table_7_runs_the_papers_systems_alone():
    table = error_table("7", {})
    assert column(table, "top-1, here") == [None] * 3 + ["-"] * 12
    assert table["archs"][:4] == [["D", "E"], ["E"], ["D", "C", "E"], []]
    assert any("GoogLeNet's 7.9 and 6.7" in note for note in table["notes"])
    assert "not run" in table_markdown(table) and "| -  " in table_markdown(table)


def test_rows_outside_the_tables():
    twin = protocol("B-5x5/256/256", "centre_crop")
    table = error_table("extra", {(twin, 0): evaluated(twin)})
    assert not any("paper" in name for name in names(table)[3:])
    (row,) = [row for row in table["rows"] if row[0] == "B-5x5" and row[3] == "centre crop"]
    assert row[1:3] == ["256", "256"]
    assert "without the mirror image" in table["notes"][0] and "1x1" not in table["notes"][0]


def test_skipped_images_and_absent_labels_are_told():
    made = {(A, 0): evaluated(A, num_skipped=3, top1_error=None, top5_error=None)}
    table = error_table("3", made)
    assert column(table, "top-1, here")[0] is None
    assert "Unreadable images left out: 3." in table["notes"]


@pytest.mark.parametrize("name", ["3", "4", "5", "6", "7", "extra"])
def test_tables_are_rectangular_and_columns_of_one_kind(name):
    made = {(row, 0): evaluated(row) for row in protocols()}
    table = error_table(name, made)
    assert len(table["rows"]) == len(table["archs"])
    for row in table["rows"]:
        assert len(row) == len(table["columns"])
        for cell, head in zip(row, table["columns"]):
            assert head["kind"] == "number" or isinstance(cell, str | None)


def test_table_1_reads_like_the_papers():
    table = table_1()
    assert [row[:2] for row in table["rows"]] == [
        *(["A", 11], ["A-LRN", 11], ["B", 13], ["B-5x5", 8], ["C", 16], ["D", 16], ["E", 19]),
    ]
    assert table["rows"][1][2] == "conv3-64 LRN"
    assert table["rows"][4][4] == "conv3-256 conv3-256 conv1-256"
    assert table["rows"][6][7] == "FC-4096, FC-4096, FC-1000"


def test_table_2_counts_the_nets_as_built():
    assert parameter_count("A") == A_COUNT
    table = table_2(102, 0.125, 32)
    small = sum(9 * i * o + o for i, o in [(3, 8), (8, 16), (16, 32), (32, 32), (32, 64), *[(64, 64)] * 3])
    small += (64 + 1) * 512 + 513 * 512 + 513 * 102
    assert table["rows"][0] == ["A", 133, A_COUNT, small]
    assert table["rows"][3][1] is None
    assert names(table_2(1000, 1.0, 224)) == ["net", "paper (millions)", "here, 1000 classes"]


@pytest.mark.parametrize(
    "cell, kind, name, text",
    [
        (29.64, "number", "top-1, here", "29.6"),
        (None, "number", "top-1, here", "not run"),
        (None, "number", "top-5 test, paper", "-"),
        (None, "text", "seeds", "-"),
        (133, "number", "paper (millions)", "133"),
        ("A", "text", "net", "A"),
    ],
)
def test_cells_as_printed(cell, kind, name, text):
    assert cell_text(cell, {"name": name, "kind": kind}) == text
