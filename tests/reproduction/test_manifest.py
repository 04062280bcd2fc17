import itertools
import re

import pytest

from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import single_scale, three_scales
from vgg_jax.reproduction.manifest import (
    PAPER_SCALES,
    SUBMISSION,
    SWEEP_SCALES,
    TABLE_2,
    TABLE_7,
    TABLES,
    Net,
    Protocol,
    net_text,
    our_scales,
    paper_scale,
    paper_top1,
    protocol,
    protocols,
    row_text,
)
from vgg_jax.reproduction.networks import parameter_count

SMALL = {"s256": (37, 37), "s384": (55, 55), "jitter": (37, 74), "jitter_fc": (37, 74)}
METHODS = {"dense": "dense", "multi_crop": "multi-crop", "multi_crop+dense": "multi-crop & dense"}


@pytest.fixture(scope="module")
def paper(real_data):
    """The lines of each table in the text of the paper."""
    file = real_data.parent / "paper" / "vgg_paper_main_text_zh.txt"
    if not file.is_file():
        pytest.skip(f"the paper's tables to compare with are absent: no file {file}")
    lines = iter(file.read_text().splitlines())
    tables = {}
    for line in lines:
        if title := re.match(r"表(\d)：", line):
            blank = next(lines)
            tables[title[1]] = list(itertools.takewhile(str.strip, lines if not blank else (blank, *lines)))
    return tables


def figures(cells):
    return [None if cell in ("", "-") else float(cell) for cell in cells]


@pytest.mark.parametrize("number", ["3", "4"])
def test_tables_3_and_4_are_the_papers(paper, number):
    arch, rows = None, []
    for line in paper[number][2:]:
        name, s, q, *errors = line.split("\t")
        arch = name or arch
        rows.append((arch, s.replace(" ", ""), q, *figures(errors)))
    ours = [
        (net.arch, paper_scale(net), ",".join(map(str, net.test_scales)), row.top1_val, row.top5_val)
        for row in TABLES[number]
        for net in row.protocol.nets
    ]
    assert ours == rows
    assert {row.protocol.method for row in TABLES[number]} == {"dense"}


def test_table_5_is_the_papers(paper):
    arch, rows = None, []
    for line in paper["5"][1:]:
        name, method, *errors = line.split("\t")
        arch = name or arch
        rows.append((arch, method, *figures(errors)))
    ours = [(r.protocol.nets[0].arch, METHODS[r.protocol.method], r.top1_val, r.top5_val) for r in TABLES["5"]]
    assert ours == rows
    assert {net[1:] for row in TABLES["5"] for net in row.protocol.nets} == {("jitter", (256, 384, 512))}


def test_table_6_is_the_papers(paper):
    """The submission's [256;512] net is the one whose fully connected layers alone were fine-tuned (sec. 4.4)."""
    rows, text = [], ""
    for line in paper["6"][2:]:
        text += line + " "
        cells = line.split("\t")
        if any(cells[1:]):
            nets = re.findall(r"\(([^()]+)\)", text)
            rows.append((nets, *figures(cells[1:])))
            text = ""
    ours = [
        ([net_text(n).replace("fc", "") for n in r.protocol.nets], r.top1_val, r.top5_val, r.top5_test)
        for r in TABLES["6"]
    ]
    assert ours == rows
    assert [r.protocol.method for r in TABLES["6"]] == ["dense", "dense", "multi_crop", "multi_crop+dense"]
    assert [n.stage for n in protocol(SUBMISSION).nets].count("jitter_fc") == 1


def test_table_7_is_the_papers(paper):
    rows = [figures([*line.split("\t"), ""][1:4]) for line in paper["7"][1:]]
    assert [[row.top1_val, row.top5_val, row.top5_test] for row in TABLE_7] == rows
    assert [line.split(" ")[0] for line in paper["7"][1:]] == [row.method.split(" ")[0] for row in TABLE_7]


def test_own_rows_of_table_7_repeat_tables_5_and_6():
    printed = {row.protocol: row for number in ("5", "6") for row in TABLES[number]}
    own = [row for row in TABLE_7 if row.protocol]
    assert [row.method.startswith("VGG") for row in TABLE_7] == [row.protocol is not None for row in TABLE_7]
    for row in own:
        assert (row.top1_val, row.top5_val) == (printed[row.protocol].top1_val, printed[row.protocol].top5_val)


def test_table_2_is_the_papers(paper):
    names, counts = (line.split("\t")[1:] for line in paper["2"])
    expected = {arch: int(count) for group, count in zip(names, counts) for arch in group.split(",")}
    assert expected == TABLE_2


@pytest.mark.parametrize("arch, millions", TABLE_2.items())
def test_parameters_in_millions_are_the_papers(arch, millions):
    assert round(parameter_count(arch) / 1e6) == millions


def test_test_scales_follow_the_two_rules():
    for row in TABLES["3"]:
        (net,) = row.protocol.nets
        assert net.test_scales == (single_scale(PAPER_SCALES[net.stage]),)
    for row in (*TABLES["4"], *TABLES["5"], *TABLES["6"]):
        for net in row.protocol.nets:
            assert net.test_scales == three_scales(PAPER_SCALES[net.stage])


@pytest.mark.parametrize(
    "net, here",
    [
        ("A/256/256", (37,)),
        ("D/256/224,256,288", (32, 37, 42)),
        ("D/384/384", (55,)),
        ("D/384/352,384,416", (50, 55, 60)),
        ("D/[256;512]/384", (56,)),
        ("D/[256;512]fc/256,384,512", (37, 56, 74)),
        ("D/256/512", (74,)),
        ("D/256/384", (55,)),
        ("D/384/256", (37,)),
        ("D/[256;512]/416", (60,)),
    ],
)
def test_scales_of_a_small_net_play_the_papers_parts(net, here):
    assert our_scales(protocol(net).nets[0], SMALL, 32) == here


def test_at_full_size_the_scales_are_the_papers():
    for row in (row for rows in TABLES.values() for row in rows):
        for net in row.protocol.nets:
            assert our_scales(net, PAPER_SCALES, 224) == net.test_scales


def test_a_scale_that_no_stage_has():
    with pytest.raises(InputError, match=r"D/256/512 needs the test scale that stands for Q = 512.* stages are s256$"):
        our_scales(Net("D", "s256", (512,)), {"s256": (256, 256)}, 224)


def test_text_of_a_net_is_read_back():
    for row in protocols():
        assert protocol(" ".join(map(net_text, row.nets)), row.method) == row


def test_rows_in_words():
    assert row_text(protocol("A/256/256")) == "A/256/256"
    assert row_text(protocol(SUBMISSION)) == "7 nets"
    assert row_text(protocol("B-5x5/256/256", "centre_crop")) == "B-5x5/256/256 by centre_crop"


def test_protocols_are_distinct_and_cover_what_the_claims_need():
    assert len(set(protocols())) == len(protocols())
    assert len(protocols(["3"])) == 12 and len(protocols(["3", "4", "5", "6"])) == 12 + 10 + 4 + 4
    assert protocols(["1", "2"]) == ()
    assert set(protocols(["7"])) <= set(protocols(["5", "6"]))
    for stage, q in itertools.product(("s256", "s384", "jitter"), SWEEP_SCALES):
        assert Protocol((Net("D", stage, (q,)),)) in protocols()


def test_an_unknown_table_is_named():
    with pytest.raises(InputError, match="--tables names '8', but the tables are 1, 2, 3, 4, 5, 6, 7, extra"):
        protocols(["3", "8"])


def test_the_best_single_net_of_the_paper():
    """Sec. 4.2: 24.8% with dense evaluation; sec. 4.3: 24.4% with both methods."""
    single = {row: error for row, error in paper_top1().items() if len(row.nets) == 1}
    assert min(single.values()) == 24.4
    assert min(error for row, error in single.items() if row.method == "dense") == 24.8
