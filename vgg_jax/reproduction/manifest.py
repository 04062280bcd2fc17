"""Tables 2 to 7 of the paper as data: every row with the paper's figures, and the further rows that its claims need.

A net with its scales is written as in the paper's Table 6: ``D/[256;512]/256,384,512`` is net D trained at S in
[256;512] and tested at Q = 256, 384, 512; ``fc`` after S means that only its fully connected layers saw the jitter.
All scales are the paper's; `our_scales` finds those of a net with another crop.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vgg_jax.errors import InputError
from vgg_jax.eval.posteriors import three_scales

# Stages of the chain by the paper's S.
STAGES = {"256": "s256", "384": "s384", "[256;512]": "jitter", "[256;512]fc": "jitter_fc"}
PAPER_SCALES = {"s256": (256, 256), "s384": (384, 384), "jitter": (256, 512), "jitter_fc": (256, 512)}


class Net(NamedTuple):
    """A net as a test sees it: architecture, stage of its training, and the paper's test scales Q."""

    arch: str
    stage: str
    test_scales: tuple[int, ...]


class Protocol(NamedTuple):
    """What gives one figure: a net, or several that are fused, and the method of evaluation."""

    nets: tuple[Net, ...]
    method: str = "dense"


class PaperRow(NamedTuple):
    """A row of Tables 3 to 6: errors in percent, of the validation set and of the test set; None: not given."""

    protocol: Protocol
    top1_val: float | None = None
    top5_val: float | None = None
    top5_test: float | None = None


class PriorRow(NamedTuple):
    """A row of Table 7: ``protocol`` for the paper's own systems, None for other people's."""

    method: str
    protocol: Protocol | None
    top1_val: float | None
    top5_val: float | None
    top5_test: float | None


def protocol(nets: str, method: str = "dense") -> Protocol:
    """Read nets as the paper writes them: ``protocol("D/256/256 E/256/256")`` is a fusion of two."""
    return Protocol(tuple(_read_net(net) for net in nets.split()), method)


def _read_net(text: str) -> Net:
    arch, s, q = text.split("/")
    return Net(arch, STAGES[s], tuple(int(scale) for scale in q.split(",")))


# Net/S/Q | method | top-1 val | top-5 val | top-5 test
_TABLE_3 = """
A/256/256       | dense | 29.6 | 10.4 | -
A-LRN/256/256   | dense | 29.7 | 10.5 | -
B/256/256       | dense | 28.7 |  9.9 | -
C/256/256       | dense | 28.1 |  9.4 | -
C/384/384       | dense | 28.1 |  9.3 | -
C/[256;512]/384 | dense | 27.3 |  8.8 | -
D/256/256       | dense | 27.0 |  8.8 | -
D/384/384       | dense | 26.8 |  8.7 | -
D/[256;512]/384 | dense | 25.6 |  8.1 | -
E/256/256       | dense | 27.3 |  9.0 | -
E/384/384       | dense | 26.9 |  8.7 | -
E/[256;512]/384 | dense | 25.5 |  8.0 | -
"""

_TABLE_4 = """
B/256/224,256,288       | dense | 28.2 | 9.6 | -
C/256/224,256,288       | dense | 27.7 | 9.2 | -
C/384/352,384,416       | dense | 27.8 | 9.2 | -
C/[256;512]/256,384,512 | dense | 26.3 | 8.2 | -
D/256/224,256,288       | dense | 26.6 | 8.6 | -
D/384/352,384,416       | dense | 26.5 | 8.6 | -
D/[256;512]/256,384,512 | dense | 24.8 | 7.5 | -
E/256/224,256,288       | dense | 26.9 | 8.7 | -
E/384/352,384,416       | dense | 26.7 | 8.6 | -
E/[256;512]/256,384,512 | dense | 24.8 | 7.5 | 7.3
"""

_TABLE_5 = """
D/[256;512]/256,384,512 | dense            | 24.8 | 7.5 | -
D/[256;512]/256,384,512 | multi_crop       | 24.6 | 7.5 | -
D/[256;512]/256,384,512 | multi_crop+dense | 24.4 | 7.2 | -
E/[256;512]/256,384,512 | dense            | 24.8 | 7.5 | -
E/[256;512]/256,384,512 | multi_crop       | 24.6 | 7.4 | -
E/[256;512]/256,384,512 | multi_crop+dense | 24.4 | 7.1 | -
"""

SUBMISSION = (
    "D/256/224,256,288 D/384/352,384,416 D/[256;512]fc/256,384,512 "
    "C/256/224,256,288 C/384/352,384,416 E/256/224,256,288 E/384/352,384,416"
)
POST_SUBMISSION = "D/[256;512]/256,384,512 E/[256;512]/256,384,512"

_TABLE_6 = f"""
{SUBMISSION}      | dense            | 24.7 | 7.5 | 7.3
{POST_SUBMISSION} | dense            | 24.0 | 7.1 | 7.0
{POST_SUBMISSION} | multi_crop       | 23.9 | 7.2 | -
{POST_SUBMISSION} | multi_crop+dense | 23.7 | 6.8 | 6.8
"""

_TABLE_7 = """
VGG (2 nets, multi-crop & dense eval.)         | 23.7 |  6.8 |  6.8
VGG (1 net, multi-crop & dense eval.)          | 24.4 |  7.1 |  7.0
VGG (ILSVRC submission, 7 nets, dense eval.)   | 24.7 |  7.5 |  7.3
GoogLeNet (Szegedy et al., 2014) (1 net)       |  -   |  7.9 |   -
GoogLeNet (Szegedy et al., 2014) (7 nets)      |  -   |  6.7 |   -
MSRA (He et al., 2014) (11 nets)               |  -   |   -  |  8.1
MSRA (He et al., 2014) (1 net)                 | 27.9 |  9.1 |  9.1
Clarifai (Russakovsky et al., 2014) (multiple) |  -   |   -  | 11.7
Clarifai (Russakovsky et al., 2014) (1 net)    |  -   |   -  | 12.5
Zeiler & Fergus (2013) (6 nets)                | 36.0 | 14.7 | 14.8
Zeiler & Fergus (2013) (1 net)                 | 37.5 | 16.0 | 16.1
OverFeat (Sermanet et al., 2014) (7 nets)      | 34.0 | 13.2 | 13.6
OverFeat (Sermanet et al., 2014) (1 net)       | 35.7 | 14.2 |   -
Krizhevsky et al. (2012) (5 nets)              | 38.1 | 16.4 | 16.4
Krizhevsky et al. (2012) (1 net)               | 40.7 | 18.2 |   -
"""

# Outside the tables: both sides of section 4.1's comparison of B with its 5x5 twin, and the other nets of Table 3 on
# centre crops too; the competition's fine-tuning of the fully connected layers alone; D at each single Q, near its S
# and far from it (sec. 4.2).
SWEEP_STAGES = ("256", "384", "[256;512]")
SWEEP_SCALES = (224, 256, 288, 352, 384, 416, 512)

_EXTRA = "\n".join(
    [
        *(f"{line.split('|')[0]} | centre_crop | - | - | -" for line in _TABLE_3.strip().splitlines()),
        "B-5x5/256/256             | centre_crop | - | - | -",
        "B-5x5/256/256             | dense       | - | - | -",
        "D/[256;512]fc/384         | dense       | - | - | -",
        "D/[256;512]fc/256,384,512 | dense       | - | - | -",
        *(f"D/{s}/{q} | dense | - | - | -" for s in SWEEP_STAGES for q in SWEEP_SCALES),
    ]
)

# Table 2: parameters in millions.
TABLE_2 = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}


def _figure(text: str) -> float | None:
    return None if text.strip() == "-" else float(text)


def _read_table(text: str) -> tuple[PaperRow, ...]:
    rows = []
    for line in text.strip().splitlines():
        nets, method, *figures = line.split("|")
        rows.append(PaperRow(protocol(nets, method.strip()), *map(_figure, figures)))
    return tuple(rows)


TABLES: dict[str, tuple[PaperRow, ...]] = {
    "3": _read_table(_TABLE_3),
    "4": _read_table(_TABLE_4),
    "5": _read_table(_TABLE_5),
    "6": _read_table(_TABLE_6),
    "extra": _read_table(_EXTRA),
}

# The paper's own rows of Table 7. Its single net is E: 7.1 in Table 5, 7.0 on the test set (sec. 4.4, 4.5).
_OWN = (
    protocol(POST_SUBMISSION, "multi_crop+dense"),
    protocol("E/[256;512]/256,384,512", "multi_crop+dense"),
    protocol(SUBMISSION),
)


def _read_table_7() -> tuple[PriorRow, ...]:
    lines = [line.split("|") for line in _TABLE_7.strip().splitlines()]
    own = (*_OWN, *[None] * (len(lines) - len(_OWN)))
    return tuple(
        PriorRow(name.strip(), ours, _figure(top1), _figure(top5), _figure(test))
        for (name, top1, top5, test), ours in zip(lines, own)
    )


TABLE_7 = _read_table_7()

TABLE_NAMES = ("1", "2", "3", "4", "5", "6", "7", "extra")


def protocols(tables: Sequence[str] = TABLE_NAMES) -> tuple[Protocol, ...]:
    """The distinct protocols of some tables, in their order; an unknown table raises InputError."""
    unknown = [name for name in tables if name not in TABLE_NAMES]
    if unknown:
        raise InputError(f"--tables names {unknown[0]!r}, but the tables are {', '.join(TABLE_NAMES)}")
    wanted = [row.protocol for name in tables for row in TABLES.get(name, ())]
    wanted += [row.protocol for row in TABLE_7 if row.protocol and "7" in tables]
    return tuple(dict.fromkeys(wanted))


def paper_top1() -> dict[Protocol, float]:
    """The paper's top-1 validation error of each protocol of Tables 3 to 6, percent."""
    rows = [row for table in TABLES.values() for row in table]
    return {row.protocol: row.top1_val for row in rows if row.top1_val is not None}


def row_text(protocol: Protocol) -> str:
    """A protocol in few words: ``D/256/256``, ``E/256/256 by multi_crop``, ``7 nets``."""
    nets = net_text(protocol.nets[0]) if len(protocol.nets) == 1 else f"{len(protocol.nets)} nets"
    return nets if protocol.method == "dense" else f"{nets} by {protocol.method}"


def net_text(net: Net) -> str:
    """A net in the paper's notation, the reverse of `protocol`."""
    return f"{net.arch}/{paper_scale(net)}/{','.join(map(str, net.test_scales))}"


def paper_scale(net: Net) -> str:
    """The paper's S of a net's stage: ``256``, ``[256;512]``, ``[256;512]fc``."""
    return next(scale for scale, stage in STAGES.items() if stage == net.stage)


def our_scales(net: Net, stages: Mapping[str, Sequence[int]], crop_size: int) -> tuple[int, ...]:
    """The Q of a net with its own crop and training scales that play the part of the paper's Q.

    stages: training scale (S_min, S_max) by stage. The three scales of the net's own stage answer to the paper's for
    that stage, the others' to the rest: at crop 32 and S = 37, 55, [37;74] the paper's 512 is 74. Raises InputError for
    a Q that no stage has.
    """
    ladder: dict[int, int] = {}
    for stage in (net.stage, *PAPER_SCALES):
        if stage in stages:
            ladder = dict(zip(three_scales(PAPER_SCALES[stage]), three_scales(stages[stage], crop_size))) | ladder
    for q in net.test_scales:
        if q not in ladder:
            raise InputError(
                f"{net_text(net)} needs the test scale that stands for Q = {q}, but the config of net {net.arch} has "
                f"no stage from which it follows; its stages are {', '.join(stages)}"
            )
    return tuple(ladder[q] for q in net.test_scales)
