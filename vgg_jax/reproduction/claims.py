"""The claims of section 4 as data, each a comparison of rows of the manifest, and the verdicts on them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vgg_jax.reproduction.manifest import POST_SUBMISSION, SUBMISSION, Protocol, paper_top1, protocol, row_text
from vgg_jax.reproduction.runs import Results
from vgg_jax.reproduction.statistics import Estimate, estimate, paired_differences

Pair = tuple[Protocol, Protocol]  # the row that the claim calls worse, and the one that it calls better
Record = dict[str, Any]

BETTER = "better"  # holds where the mean difference of the pairs is positive
EACH = "each"  # holds where every pair's difference is positive; the smallest counts
NO_GAIN = "no gain"  # holds unless the first of the pairs is better in the mean


class Claim(NamedTuple):
    """A claim: pairs whose top-1 errors are compared, how, and the paper's difference where its tables lack it."""

    id: str
    section: str
    text: str
    kind: str
    pairs: tuple[Pair, ...]
    paper_difference: float | None = None


def _pairs(*lines: str) -> tuple[Pair, ...]:
    """Read "worse > better" in the paper's notation, the method after " by " where it is not dense."""
    sides = [[side.partition(" by ") for side in line.split(" > ")] for line in lines]
    return tuple((_side(*worse), _side(*better)) for worse, better in sides)


def _side(nets: str, _: str, method: str) -> Protocol:
    return protocol(nets, method or "dense")


_FIXED_AT_SEVERAL = [f"{n}/256/256 > {n}/256/224,256,288" for n in "BCDE"]
_FIXED_AT_SEVERAL += [f"{n}/384/384 > {n}/384/352,384,416" for n in "CDE"]
_JITTER = "[256;512]/256,384,512"

_OF_THE_PAPER = (
    Claim("lrn", "4.1", "Local response normalisation does not help (A-LRN, A)",
          NO_GAIN, _pairs("A-LRN/256/256 > A/256/256")),
    Claim("depth", "4.1", "The error falls with depth: A, B, C, D",
          EACH, _pairs("A/256/256 > B/256/256", "B/256/256 > C/256/256", "C/256/256 > D/256/256")),
    Claim("depth_11_19", "4.1", "19 layers are better than 11 (E, A)",
          BETTER, _pairs("A/256/256 > E/256/256")),
    Claim("saturation", "4.1", "The error saturates at 19 layers (E is no better than D)",
          NO_GAIN, _pairs(*(f"E/{s} > D/{s}" for s in ("256/256", "384/384", "[256;512]/384")))),
    Claim("nonlinearity", "4.1", "The extra non-linearity of 1x1 convolutions helps (C is better than B)",
          BETTER, _pairs("B/256/256 > C/256/256")),
    Claim("context", "4.1", "Spatial context matters (D is better than C)",
          BETTER, _pairs(*(f"C/{s} > D/{s}" for s in ("256/256", "384/384", "[256;512]/384")))),
    Claim("5x5", "4.1", "3x3 pairs are better than single 5x5 layers (B, its 5x5 twin, on a centre crop)",
          BETTER, _pairs("B-5x5/256/256 by centre_crop > B/256/256 by centre_crop"), 7.0),
    Claim("jitter_256", "4.1", "Scale jitter in training is better than S = 256 (C, D, E; one test scale)",
          BETTER, _pairs(*(f"{n}/256/256 > {n}/[256;512]/384" for n in "CDE"))),
    Claim("jitter_384", "4.1", "Scale jitter in training is better than S = 384 (C, D, E; one test scale)",
          BETTER, _pairs(*(f"{n}/384/384 > {n}/[256;512]/384" for n in "CDE"))),
    Claim("scales_fixed", "4.2", "Several test scales are better than one, nets of fixed S",
          BETTER, _pairs(*_FIXED_AT_SEVERAL)),
    Claim("scales_jitter", "4.2", "Several test scales are better than one, nets trained with jitter",
          BETTER, _pairs(*(f"{n}/[256;512]/384 > {n}/{_JITTER}" for n in "CDE"))),
    Claim("gap", "4.2", "A large gap between S and Q hurts (D at S = 256, Q = 512 and at S = 384, Q = 256)",
          EACH, _pairs("D/256/512 > D/256/256", "D/384/256 > D/384/384")),
    Claim("jitter_256_several", "4.2", "Scale jitter in training is better than S = 256 at several test scales too",
          BETTER, _pairs(*(f"{n}/256/224,256,288 > {n}/{_JITTER}" for n in "CDE"))),
    Claim("jitter_384_several", "4.2", "Scale jitter in training is better than S = 384 at several test scales too",
          BETTER, _pairs(*(f"{n}/384/352,384,416 > {n}/{_JITTER}" for n in "CDE"))),
    Claim("multi_crop", "4.3", "Multi-crop is slightly better than dense evaluation (D, E)",
          BETTER, _pairs(*(f"{n}/{_JITTER} > {n}/{_JITTER} by multi_crop" for n in "DE"))),
    Claim("both_dense", "4.3", "Multi-crop and dense together are better than dense alone (D, E)",
          BETTER, _pairs(*(f"{n}/{_JITTER} > {n}/{_JITTER} by multi_crop+dense" for n in "DE"))),
    Claim("both_multi_crop", "4.3", "Multi-crop and dense together are better than multi-crop alone (D, E)",
          BETTER, _pairs(*(f"{n}/{_JITTER} by multi_crop > {n}/{_JITTER} by multi_crop+dense" for n in "DE"))),
    Claim("fc_only", "4.4", "Fine-tuning all layers is better than the fully connected ones alone (D, jitter)",
          BETTER, _pairs("D/[256;512]fc/384 > D/[256;512]/384", f"D/[256;512]fc/256,384,512 > D/{_JITTER}")),
    Claim("fusion_7", "4.4", "The fusion of the submission's 7 nets is better than each of them",
          EACH, _pairs(*(f"{net} > {SUBMISSION}" for net in SUBMISSION.split()))),
    Claim("fusion_2", "4.4", "The fusion of two nets (D & E) is better than each, by all three methods",
          EACH, _pairs(*(f"{n}/{_JITTER} by {method} > {POST_SUBMISSION} by {method}" for n in "DE"
                         for method in ("dense", "multi_crop", "multi_crop+dense")))),
    Claim("two_beat_seven", "4.4", "The two nets after the submission are better than its seven",
          BETTER, _pairs(f"{SUBMISSION} > {POST_SUBMISSION}")),
)  # fmt: skip

# Claims about nets, which in small can fail because of dense evaluation: judged once more without it.
_ABOUT_NETS = ("lrn", "depth", "depth_11_19", "saturation", "nonlinearity", "context", "jitter_256", "jitter_384")


def _on_centre_crops(claim: Claim) -> Claim:
    pairs = tuple((worse._replace(method="centre_crop"), better._replace(method="centre_crop"))
                  for worse, better in claim.pairs)  # fmt: skip
    return claim._replace(id=f"centre_{claim.id}", text=f"On centre crops, not in the paper: {claim.text}", pairs=pairs)


CLAIMS = _OF_THE_PAPER + tuple(_on_centre_crops(claim) for claim in _OF_THE_PAPER if claim.id in _ABOUT_NETS)


def judge_all(results: Results) -> list[Record]:
    """The verdicts on all claims of section 4, in the paper's order."""
    return [judge(claim, results) for claim in CLAIMS]


def judge(claim: Claim, results: Results) -> Record:
    """The verdict on a claim: holds, does not hold or not run, with the difference and its standard error.

    Taken are the pairs of the seed that has most of them, and the seeds that have them all; a claim about each pair
    needs all of its pairs. The paper's difference is over the same pairs, where it gives figures. Differences are in
    points of top-1 error, positive in the claimed direction. Rows of different numbers of images raise InputError.
    """
    pairs, seeds = _available(claim, results)
    if not pairs or (claim.kind == EACH and len(pairs) < len(claim.pairs)):
        return _record(claim, "not run", None, claim.pairs, _missing(claim, results))
    rows = [pair for seed in seeds for pair in _wrong(pairs, seed, results)]
    differences = paired_differences(*zip(*rows)).reshape(len(seeds), len(pairs), -1)
    of_pairs = [estimate(differences[:, i]) for i in range(len(pairs))]
    found = min(of_pairs) if claim.kind == EACH else estimate(differences.mean(axis=1))
    holds = found.points >= 0 if claim.kind == NO_GAIN else found.points > 0
    size = f"{differences.shape[-1]} images, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    details = "; ".join([*_pair_details(claim, pairs, of_pairs), *_significance(found), size])
    return _record(claim, "holds" if holds else "does not hold", found, pairs, details)


def _available(claim: Claim, results: Results) -> tuple[Sequence[Pair], list[int]]:
    of_seed = {
        seed: [pair for pair in claim.pairs if all((side, seed) in results for side in pair)]
        for seed in sorted({seed for _, seed in results})
    }
    most = max(of_seed.values(), key=len, default=[])
    return most, [seed for seed, pairs in of_seed.items() if set(most) <= set(pairs)]


def _wrong(pairs: Sequence[Pair], seed: int, results: Results) -> list[list[np.ndarray]]:
    return [[results[side, seed].wrong[1] for side in pair] for pair in pairs]


def _record(claim: Claim, verdict: str, found: Estimate | None, pairs: Sequence[Pair], details: str) -> Record:
    return {
        "id": claim.id,
        "section": claim.section,
        "text": claim.text,
        "verdict": verdict,
        "difference": found and round(found.points, 4),
        "standard_error": found and round(found.standard_error, 4),
        "paper_difference": _paper_difference(claim, pairs),
        "details": details,
    }


def _paper_difference(claim: Claim, pairs: Sequence[Pair]) -> float | None:
    """The paper's difference over those of the pairs for which it prints both figures: their mean, or the smallest."""
    figures = paper_top1()
    known = [figures[worse] - figures[better] for worse, better in pairs if {worse, better} <= figures.keys()]
    if not known:
        return claim.paper_difference
    return round(min(known) if claim.kind == EACH else sum(known) / len(known), 2)


def _missing(claim: Claim, results: Results) -> str:
    run = {row for row, _ in results}
    missing = dict.fromkeys(row_text(side) for pair in claim.pairs for side in pair if side not in run)
    return f"not run: {', '.join(missing)}" if missing else "no seed has all of its rows"


def _pair_details(claim: Claim, pairs: Sequence[Pair], found: Sequence[Estimate]) -> list[str]:
    parts = [
        f"{row_text(worse)} minus {row_text(better)}: {difference.points:+.2f} ({difference.standard_error:.2f})"
        for (worse, better), difference in zip(pairs, found)
    ]
    if len(pairs) < len(claim.pairs):
        parts.append(f"{len(pairs)} of {len(claim.pairs)} pairs were run")
    if claim.kind == EACH:
        parts.append("the smallest difference counts")
    return parts


def _significance(found: Estimate) -> list[str]:
    within = abs(found.points) <= 2 * found.standard_error
    return ["within two standard errors: not significant at this size"] if within else []


def claims_markdown(claims: Sequence[Record]) -> str:
    """The verdicts as a Markdown list: differences in points of top-1 error, positive in the claimed direction."""
    lines = [
        f"* {claim['verdict']} (sec. {claim['section']}): {claim['text']}; {'; '.join(_figures(claim))}"
        for claim in claims
    ]
    return "\n\n".join(["### Claims", "Nets are written net/S/Q with the paper's S and Q.", "\n".join(lines)])


def _figures(claim: Record) -> list[str]:
    parts = []
    if claim["difference"] is not None:
        parts.append(f"difference {claim['difference']:+.2f} ± {claim['standard_error']:.2f}")
    if claim["paper_difference"] is not None:
        parts.append(f"paper {claim['paper_difference']:+.2f}")
    return [*parts, claim["details"]]
