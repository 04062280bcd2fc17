"""Evaluation (sec. 3.2, 4): views of an image -> posteriors -> their mean. Imports no data pipeline."""

from vgg_jax.eval.crops import centre_crop_eval, multi_crop_eval
from vgg_jax.eval.dense import dense_eval, dense_scores, fc_to_conv
from vgg_jax.eval.posteriors import average_posteriors, top_k_errors
from vgg_jax.eval.programs import compilation_count
from vgg_jax.eval.stored import load_posteriors

__all__ = [
    "average_posteriors",
    "centre_crop_eval",
    "compilation_count",
    "dense_eval",
    "dense_scores",
    "fc_to_conv",
    "load_posteriors",
    "multi_crop_eval",
    "top_k_errors",
]
